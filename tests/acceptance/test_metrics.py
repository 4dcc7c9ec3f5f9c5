"""The figures for Prometheus: of a real daemon, and as a real Prometheus reads them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from sttd.core.staff import REASONS
from tests.support.daemon import PYTHON, ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

DASHBOARD = ROOT / "etc" / "grafana" / "sttd.json"
RULES = ROOT / "etc" / "prometheus" / "sttd.rules.yml"
PAGE = ROOT / "docs" / "metrics.md"

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def fetch(url: str, accept: str = "") -> tuple[str, str]:
    """Media type and text."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(ls)[label] for n, ls in self.samples if n == name}


@contextmanager
def scraped_daemon(**sections: Mapping[str, object]) -> Iterator[tuple[Daemon, int]]:
    port = free_port()
    with daemon(metrics={"listen": f"127.0.0.1:{port}"}, **sections) as sttd:
        sttd.start()
        yield sttd, port


def scrape(port: int) -> Scraped:
    return Scraped(fetch(f"http://127.0.0.1:{port}/metrics")[1])


def scraped_until(port: int, name: str, value: float, **labels: str) -> Scraped:
    """A page is served again for a second, so the latest is waited for."""

    def look() -> Scraped | None:
        page = scrape(port)
        return page if page(name, **labels) == value else None

    found = eventually(look, f"{name} {labels} is {value}")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def busy_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, int]]:
    """One for all tests that only look."""
    with a_busy_day(tmp_path_factory.mktemp("day")) as day:
        yield day


@contextmanager
def a_busy_day(folder: Path) -> Iterator[tuple[Daemon, int]]:
    """A daemon that has seen everything that a dashboard shows."""
    wav, long = tone(folder / "a.wav", 0.5), tone(folder / "b.wav", 8.0)
    with scraped_daemon(recycle={"max_requests": 3, "stall_timeout": "3s"}) as (sttd, port):
        for number in range(7):
            sttd.drop(f"good-{number}.wav", wav)
        sttd.drop("bad.wav", wav, {"options": {"raise": "invalid"}})
        marker = str(folder / "crashed")
        sttd.drop("crash.wav", wav, {"options": {"segfault": True, "once_marker": marker}})
        sttd.drop("deadly.wav", wav, {"options": {"abort": True}})
        marker = str(folder / "stalled")
        sttd.drop("hang.wav", wav, {"options": {"hang": True, "once_marker": marker}})
        sttd.drop("long.wav", long, {"options": {"sleep_s": 3, "segments": 12}})
        sttd.until("job.succeeded", 10)
        sttd.until("job.failed", 2)
        eventually(lambda: _resting(sttd), "nobody is being replaced any more")
        ready = float(len(sttd.events("worker.ready")))
        scraped_until(port, "sttd_worker_ready_seconds_count", ready)
        yield sttd, port


def test_the_figures_are_those_that_sttctl_shows(busy_day: tuple[Daemon, int]) -> None:
    sttd, port = busy_day
    page = scraped_until(port, "sttd_jobs", 10.0, state="succeeded")
    status = eventually(lambda: _resting(sttd), "all workers are there")
    page = scraped_until(port, "sttd_workers", 1.0, state="standby")
    for state in ("queued", "deferred", "running", "succeeded", "failed", "cancelled"):
        assert page("sttd_jobs", state=state) == status["queue"][state]
    for reason in REASONS:
        assert page("sttd_worker_recycles_total", reason=reason) == status["recycles"][reason]
    assert page("sttd_worker_recycles_total", reason="max_requests") >= 1
    assert page("sttd_worker_recycles_total", reason="stalled") == 1
    assert page("sttd_state", state="running") == 1
    assert page("sttd_engine_state", state="ok") == 1
    assert page("sttd_workers_configured") == status["pool"]["configured"]
    assert page("sttd_engine_info", engine="drill", version=_engine_version(sttd)) == 1
    workers = status["pool"]["workers"]
    assert len(page.labels("sttd_worker_rss_bytes", "slot")) == len(workers)
    rss = {value for (name, _), value in page.samples.items() if name == "sttd_worker_rss_bytes"}
    assert 0 < min(rss) <= max(w["peak_rss_bytes"] for w in workers)
    assert page("process_resident_memory_bytes") == pytest.approx(
        status["daemon"]["rss_bytes"], rel=0.2
    )
    for slot in page.labels("sttd_worker_rss_bytes", "slot"):
        ceiling = page("sttd_worker_rss_ceiling_bytes")
        room = page("sttd_worker_headroom_bytes", slot=slot)
        assert room == ceiling - page("sttd_worker_rss_bytes", slot=slot)


def _resting(sttd: Daemon) -> Any:
    status = sttd.status()
    states = sorted(w["state"] for w in status["pool"]["workers"])
    return status if states == ["idle", "idle", "standby"] else None


def _engine_version(sttd: Daemon) -> str:
    return str(sttd.until("template.ready")["version"])


def test_events_are_counted_and_their_latencies_measured(busy_day: tuple[Daemon, int]) -> None:
    sttd, port = busy_day
    page = scraped_until(port, "sttd_jobs_finished_total", 10.0, state="succeeded")
    for name in ("job.accepted", "job.started", "job.requeued", "job.deferred", "worker.killed"):
        assert page("sttd_events_total", event=name) == len(sttd.events(name))
    assert page("sttd_events_total", event="daemon.started") == 1
    assert page("sttd_jobs_accepted_total", kind="inbox") == 12
    assert page("sttd_jobs_failed_total", code="invalid_audio") == 1
    assert page("sttd_jobs_failed_total", code="quarantined") == 1
    assert page("sttd_attempts_repeated_total", code="stalled") == 1
    assert page("sttd_audio_transcribed_seconds_total") == pytest.approx(9 * 0.5 + 8.0)
    assert page("sttd_audio_processed_seconds_total") >= 9 * 0.5 + 8.0
    assert page("sttd_job_realtime_factor_count") == 10
    kills = len(sttd.events("worker.killed"))
    assert page("sttd_worker_kill_latency_seconds_count") == kills == 1
    left = len(sttd.events("worker.recycled"))
    assert page("sttd_worker_leave_seconds_count") == left
    lives = sttd.json("workers", "--history")["lives"]
    replaced = [life for life in lives if life["replacement_latency_s"] is not None]
    assert page("sttd_worker_replacement_latency_seconds_count") == len(replaced) > 3
    assert page("sttd_worker_ready_seconds_count") == len(sttd.events("worker.ready"))


def test_it_is_served_in_both_formats(busy_day: tuple[Daemon, int]) -> None:
    _, port = busy_day
    url = f"http://127.0.0.1:{port}/metrics"
    media, text = fetch(url)
    assert media.startswith("text/plain; version=0.0.4")
    wanted = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    media, open_text = fetch(url, wanted)
    assert media.startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(open_text)  # type: ignore[no-untyped-call]  # not annotated
    names = {family.name for family in families}
    assert "sttd_jobs" in names
    assert len(names) == len(list(parse(text)))
    assert fetch(url, "application/openmetrics-text;version=nonsense")[1]
    assert "_created" not in text + open_text


def test_the_page_says_what_each_figure_is_and_names_no_job(busy_day: tuple[Daemon, int]) -> None:
    sttd, port = busy_day
    page = scrape(port)
    for family in parse(page.text):
        assert family.documentation.endswith("."), family.name
    assert not re.search(r"good-|bad\.wav|w-\d", page.text)
    assert not any(job["job"] in page.text for job in sttd.json("jobs")["jobs"])


def test_every_figure_is_in_the_documentation_and_nothing_else(
    busy_day: tuple[Daemon, int],
) -> None:
    page = scrape(busy_day[1])
    served = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in parse(page.text)
    }
    told = set(re.findall(r"^\| `((?:sttd|process)_\w+)", PAGE.read_text(), re.MULTILINE))
    assert told == served


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
def test_promtool_has_nothing_to_say_of_the_page(busy_day: tuple[Daemon, int]) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(busy_day[1]).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# -- the dashboard and the alerts --------------------------------------------------------------
def dashboard_queries() -> dict[str, list[str]]:
    """Expressions by the panel's title, Grafana's variables put in."""
    board = json.loads(DASHBOARD.read_text())
    found = {p["title"]: [t["expr"] for t in p.get("targets", ())] for p in board["panels"]}
    found |= {a["name"]: [a["expr"]] for a in board["annotations"]["list"]}
    values = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
    for expressions in found.values():
        for name, value in values.items():
            expressions[:] = [one.replace(name, value) for one in expressions]
        assert not any("$" in one for one in expressions)
    return {title: each for title, each in found.items() if each}


def selectors(expression: str) -> Iterator[tuple[str, str]]:
    """Names of metrics and what stands in their braces."""
    pattern = r"\b((?:sttd|process)_\w+|up)\b(?:\{([^}]*)\})?"
    for found in re.finditer(pattern, expression):
        yield found[1], found[2] or ""


def alerts() -> dict[str, str]:
    text = RULES.read_text()
    found = re.findall(r"- alert: (\w+)\n\s+expr:( >-\n(?:\s{10}.*\n)+|.*\n)", text)
    return {name: expression.removeprefix(" >-").strip() for name, expression in found}


def test_every_name_and_label_in_dashboard_and_alerts_is_in_a_real_scrape(
    busy_day: tuple[Daemon, int],
) -> None:
    page = scrape(busy_day[1])
    expressions = [one for each in dashboard_queries().values() for one in each]
    assert len(alerts()) == RULES.read_text().count("- alert:") > 10
    expressions += alerts().values()
    checked = 0
    for expression in expressions:
        for name, braces in selectors(expression):
            if name == "up":
                continue
            assert any(n == name for n, _ in page.samples), f"{name} in {expression}"
            for label, _, value in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', braces):
                if label not in ("job", "instance"):  # Prometheus adds these
                    there = page.labels(name, label)
                    assert set(value.split("|")) <= there, f"{name}{{{label}}}: {there}"
                    checked += 1
    assert checked > 15


def test_the_dashboards_panels_have_numbers_of_their_own_and_cover_nobody() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
@pytest.mark.parametrize("how", [["check", "rules", RULES.name], ["test", "rules"]])
def test_promtool_accepts_the_alerts_and_they_fire_as_they_should(how: list[str]) -> None:
    if how[0] == "test":
        how = [*how, RULES.with_suffix(".test.yml").name]
    done = subprocess.run(
        ["promtool", *how], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """A real Prometheus that scrapes the daemon every 200 ms and has the rules; its address."""
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, evaluation_interval: 200ms}\n"
        f"rule_files: ['{RULES}']\n"
        "scrape_configs:\n"
        f"  - {{job_name: sttd, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    )
    here = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={here}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{here}"
    finally:
        process.kill()
        process.wait()


def query(server: str, path: str, **fields: str) -> Any:
    try:
        text = fetch(f"{server}/api/v1/{path}?{urllib.parse.urlencode(fields)}")[1]
    except OSError:  # it has not begun to listen, or refuses the question
        return None
    answer = json.loads(text)
    assert answer["status"] == "success", answer
    return answer["data"]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus (Debian: prometheus)")
def test_a_real_prometheus_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    with a_busy_day(tmp_path) as (sttd, port), prometheus(tmp_path, port) as server:
        wav = tmp_path / "a.wav"
        eventually(lambda: _answered(query(server, "query", query="count_over_time(up[1m]) > 2")))
        # what is shown as a rate must grow while it looks
        sttd.drop("more.wav", wav)
        sttd.drop("worse.wav", wav, {"options": {"raise": "invalid"}})
        marker = {"segfault": True, "once_marker": str(tmp_path / "once")}
        sttd.drop("crash-again.wav", wav, {"options": marker})
        marker = {"hang": True, "once_marker": str(tmp_path / "hung")}
        sttd.drop("hang-again.wav", wav, {"options": marker})
        sttd.until("job.succeeded", 13)
        sttd.ctl("recycle", "--all")
        queries = dashboard_queries()
        del queries["Starts of the daemon"]  # it has not been started meanwhile

        missing: list[str] = []

        def unanswered() -> list[str]:
            missing[:] = [
                f"{title}: {one}"
                for title, expressions in queries.items()
                for one in expressions
                if not _answered(query(server, "query", query=one))
                and "sessions_max" not in one  # drill has no quota
            ]
            return missing

        assert len(queries) > 20
        with contextlib.suppress(AssertionError):
            eventually(lambda: not unanswered(), deadline_s=60.0)
        assert missing == []
        rules = query(server, "rules")["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(alerts(), "ok")
        states = {rule["name"]: rule["state"] for rule in rules}
        assert states["SttdDown"] == "inactive"
        assert states["SttdStuck"] == "inactive"


def _answered(data: Any) -> bool:
    return bool(data and any(one["value"][1] != "NaN" for one in data["result"]))


# -- its place in the daemon -------------------------------------------------------------------
def test_a_taken_port_ends_the_start_with_key_and_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with daemon(metrics={"listen": f"127.0.0.1:{port}"}) as sttd:
            sttd.start(wait=False)
            assert sttd.process is not None
            assert sttd.process.wait(30) == 1
            said = sttd.log_path.read_text()
            assert f"sttd: metrics.listen: cannot listen on 127.0.0.1:{port}: Address" in said
            assert "name a free port" in said
            assert "Traceback" not in said


@pytest.mark.parametrize("where", ["0.0.0.0:9465", "192.0.2.7:9465", "[::]:9465", "host:9465"])
def test_an_address_that_others_can_reach_is_refused(where: str) -> None:
    with daemon(metrics={"listen": where}) as sttd:
        sttd.start(wait=False)
        assert sttd.process is not None
        assert sttd.process.wait(30) == 2
        said = sttd.log_path.read_text()
        assert "metrics.listen" in said
        assert "loopback" in said


def test_nothing_listens_and_nothing_is_imported_where_it_is_off() -> None:
    with daemon() as sttd:
        sttd.start()
        assert not psutil.Process(sttd.pid).net_connections("inet")
    code = "import sys, sttd.supervisor.main; print('prometheus_client' in sys.modules)"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_package_the_key_is_named_and_what_to_install(tmp_path: Path) -> None:
    hiding = tmp_path / "sitecustomize.py"
    hiding.write_text(
        "import sys\n"
        "class Hiding:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'prometheus_client':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hiding())\n"
    )
    with daemon(metrics={"listen": "127.0.0.1:9465"}) as sttd:
        sttd.start(wait=False, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
        assert sttd.process is not None
        assert sttd.process.wait(30) == 2
        assert "pip install 'sttd[metrics]'" in sttd.log_path.read_text()
        checked = subprocess.run(
            [sys.executable, "-m", "sttd", "check-config", "-c", str(sttd.config)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        )
        assert checked.returncode == 2
        assert "metrics.listen" in checked.stdout + checked.stderr


def test_a_hundred_scrapes_at_once_delay_no_job_and_leave_nothing(tmp_path: Path) -> None:
    with scraped_daemon() as (sttd, port):
        wav = tone(tmp_path / "a.wav", 0.5)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        sttd.drop("a.wav", wav)
        assert sttd.transcript("a")
        for client in clients:
            client.close()
        for number in range(20):
            sttd.drop(f"{number}.wav", wav)
            eventually(lambda: _scraped_or_none(port), "served again")
        sttd.until("job.succeeded", 21)
        assert not sttd.events("library.message", "daemon.failed")
        assert sttd.stop() == 0


def test_a_ledger_that_does_not_answer_is_told_and_holds_up_no_scrape(tmp_path: Path) -> None:
    with scraped_daemon() as (sttd, port):
        wav = tone(tmp_path / "a.wav", 0.5)
        sttd.drop("a.wav", wav)
        assert sttd.transcript("a")
        stranger = sqlite3.connect(sttd.state / "ledger" / "sttd.db", isolation_level=None)
        try:
            stranger.execute("BEGIN IMMEDIATE")  # whoever commits now has to wait
            sttd.drop("b.wav", wav)
            page = scraped_until(port, "sttd_ledger_up", 0.0)
            assert not page.labels("sttd_jobs", "state")
            assert not [name for name, _ in page.samples if name == "sttd_queue_oldest_seconds"]
            assert page.labels("sttd_worker_rss_bytes", "slot")
        finally:
            stranger.close()
        assert sttd.transcript("b")
        page = scraped_until(port, "sttd_ledger_up", 1.0)
        assert scraped_until(port, "sttd_jobs", 2.0, state="succeeded")


def _scraped_or_none(port: int) -> Scraped | None:
    try:
        return scrape(port)
    except OSError:  # 503 while the silent ones are being cut off
        return None
