"""What people see of the past: lives of workers, and why something ended. Needs rich.

Shapes only, as `views`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from sttd.ctl import human, views
from sttd.ctl.reasons import DECIDERS, because
from sttd.ctl.tables import Column, Fitted
from sttd.wire.codes import Code
from sttd.wire.lives import AttemptView, LifeView, WhyView

BAD = frozenset({"rss_ceiling", "crashed", "stalled", "job_timeout"})
SHOWN_STACK = 12  # lines of a stack that people see; --json has all


def lives(found: Iterable[LifeView]) -> None:
    """`sttctl workers --history`."""
    out = views.console()
    now = dt.datetime.now(dt.UTC)
    numbers = ("jobs", "rss", "peak", "leak/job", "kill", "replaced", "age")
    table = Fitted(
        *(
            Column(title=name, right=name in numbers)
            for name in ("worker", "cause", "decider", *numbers, "ended")
        ),
        narrowing=("~ended", "decider", "age", "replaced", "kill", "leak/job", "peak"),
    )
    for life in found:
        table.add(
            life.worker,
            Text(life.cause, style="bold red" if life.cause in BAD else ""),
            life.decider,
            str(life.jobs),
            _size(life.rss_bytes or None),  # 0: it died before anybody looked
            _size(life.peak_rss_bytes or None),
            "" if life.leak_per_job_bytes is None else human.change(round(life.leak_per_job_bytes)),
            _short(life.kill_latency_s),
            _short(life.replacement_latency_s),
            human.span(life.age_s),
            (human.ago(life.ended, now), human.ago(life.ended, now).removesuffix(" ago")),
        )
    out.print(table if table.rows else Text("no worker has ended yet", style="dim"))


def why(view: WhyView) -> None:
    """`sttctl why`."""
    out = views.console()
    if view.kind == "worker":
        _worker(view, out)
    else:
        _job(view, out)
    for one in view.evidence:
        out.print()
        _evidence(one, out)
    if view.events:
        out.print()
        for event in view.events:
            out.print(
                views.event_line(event, but=("worker",) if view.kind == "worker" else ("job",))
            )


def _worker(view: WhyView, out: Console) -> None:
    if view.worker is not None:
        lived = view.worker
        doing = f"does job {lived.job}" if lived.job else f"is {lived.state}"
        out.print(Text(f"{lived.id} lives and {doing}."))
        out.print(
            f"{human.count(lived.requests, 'job')} in {human.span(lived.age_s)}; "
            f"{human.size(lived.rss_bytes)}, at most {human.size(lived.peak_rss_bytes)}."
        )
    elif view.life is not None:
        for line in life_lines(view.life):
            out.print(Text(line))


def life_lines(life: LifeView) -> list[str]:
    """A finished life in two or three sentences."""
    decider = DECIDERS.get(life.decider, f"by {life.decider}")
    size = "it died before its memory was looked at"
    if life.rss_bytes:
        size = f"{_size(life.rss_bytes)} at the end, at most {_size(life.peak_rss_bytes)}"
    if life.jobs and life.leak_per_job_bytes is not None:
        size += f"; {human.change(round(life.leak_per_job_bytes))} a job"
    ended = f"was ended {decider}, {life.cause}: {because(life.cause)}"
    if life.cause == "crashed":
        ended = "crashed: it left by itself, with a job or before it was ready"
        if life.decider == "kernel":
            ended = "crashed: it died of a signal, by a fault of its own or from outside"
    lines = [
        f"{life.worker} {ended}.",
        f"{human.count(life.jobs, 'job')} in {human.span(life.age_s)}; {size}.",
    ]
    waits = []
    if life.kill_latency_s is not None:
        waits.append(f"gone {human.short(life.kill_latency_s)} after the decision")
    if life.replacement_latency_s is not None:
        waits.append(f"replaced after {human.short(life.replacement_latency_s)}")
    if waits:
        lines.append(f"{', '.join(waits).capitalize()}.")
    return lines


def _job(view: WhyView, out: Console) -> None:
    job = view.job
    if job is None:
        return
    name = human.plain(job.source.name)
    out.print(Text.assemble(f"{job.job} ({name}): ", views.state(job.state)))
    if job.error is not None:
        out.print(Text(human.plain(f"{job.error.code}: {job.error.message}")))
        if meaning := _meaning(job.error.code):
            out.print(Text(meaning, style="dim"))
    for attempt in view.attempts:
        out.print()
        _attempt(attempt, out)


def _meaning(code: str) -> str:
    return next((known.sentence for known in Code if known.value == code), "")


def _attempt(attempt: AttemptView, out: Console) -> None:
    where = f" on {attempt.worker}" if attempt.worker else ""
    head = Text(f"attempt {attempt.attempt}{where}, {human.local(attempt.at)}: ", style="bold")
    out.print(head.append(human.plain(f"{attempt.code}: {attempt.message}"), style="not bold"))
    if attempt.life is not None:
        for line in life_lines(attempt.life):
            out.print(Text(f"  {line}"))


def _evidence(one: Mapping[str, object], out: Console) -> None:
    title = f"evidence of attempt {one.get('attempt')} on {one.get('worker')} ({one.get('reason')})"
    out.print(Text(human.plain(title), style="bold"))
    samples = one.get("samples")
    if isinstance(samples, list) and samples:
        first, last = samples[0], samples[-1]
        out.print(f"  memory: {human.size(first[1])} {human.short(-first[0])} before the end, "
                  f"{human.size(last[1])} at the end")  # fmt: skip
    threads = one.get("threads")
    if isinstance(threads, list):
        for thread in threads:
            waits = (
                f", waits in {thread['waits_in']}"
                if thread.get("waits_in") not in ("", "0")
                else ""
            )
            out.print(Text(human.plain(f"  thread {thread['name']}: {thread['state']}{waits}")))
    stacks = _job_first(str(one.get("stacks") or "")).splitlines()
    for line in stacks[:SHOWN_STACK]:
        out.print(Text(human.plain(f"  {line}"), style="dim"))
    if len(stacks) > SHOWN_STACK:
        out.print(Text(f"  … {len(stacks) - SHOWN_STACK} lines more with --json", style="dim"))


def _job_first(stacks: str) -> str:
    """The stacks with that of the thread that has the job before those of its helpers.

    faulthandler tells it last; it is the main thread, which was asked, so the "current" one.
    """
    threads = [one.strip("\n") for one in stacks.split("\n\n")]
    threads.sort(key=lambda one: not one.startswith("Current thread"))
    return "\n\n".join(threads)


def _size(number: int | None) -> str:
    return "" if number is None else human.size(number)


def _short(seconds: float | None) -> str:
    return "" if seconds is None else human.short(seconds)
