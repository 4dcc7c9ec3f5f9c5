"""The wire between clients and the daemon: everything survives it, nothing else passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.core.retry import FailureKind
from sttd.wire import options, replies, requests, views
from sttd.wire.codes import Code
from sttd.wire.lives import LifeView
from sttd.wire.memory import MemoryView

DOCS = Path(__file__).parents[2] / "docs" / "protocol.md"

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
job_ids = text
instants = st.just("2026-01-31T12:00:00.000Z")
wishes = st.dictionaries(text, st.none() | st.booleans() | st.integers(0, 9) | text, max_size=3)
submission: dict[str, st.SearchStrategy[Any]] = {
    "options": wishes,
    "priority": st.none() | st.integers(-1000, 1000),
    "key": st.none() | text,
}
offsets = st.integers(0, (1 << 53) - 1)
waits = st.floats(0, requests.MAX_WAIT_S)

REQUESTS = st.one_of(
    st.builds(requests.Status),
    st.builds(requests.Drain),
    st.builds(requests.WaitDrained, timeout_s=waits),
    st.builds(requests.Resume),
    st.builds(requests.SubmitOpen, name=text, bytes=offsets, **submission),
    st.builds(requests.SubmitChunk, upload=text, offset=offsets),
    st.builds(requests.SubmitCommit, upload=text),
    st.builds(requests.SubmitAbort, upload=text),
    st.builds(requests.SubmitPath, path=text, **submission),
    st.builds(requests.SubmitUrl, url=text, **submission),
    st.builds(
        requests.Jobs,
        state=st.none() | st.sampled_from(get_args(views.JobStateName)),
        limit=st.integers(1, requests.MAX_LISTED),
        before=st.none() | job_ids,
    ),
    st.builds(requests.Show, job=job_ids),
    st.builds(
        requests.Wait, jobs=st.lists(job_ids, min_size=1, max_size=3).map(tuple), timeout_s=waits
    ),
    st.builds(requests.Cancel, job=job_ids),
    st.builds(requests.Retry, job=st.none() | job_ids),
    st.builds(requests.Workers),
    st.builds(requests.Recycle, worker=st.none() | text),
    st.builds(requests.Scale, workers=st.integers(0, 1024)),
    st.builds(requests.Reload),
    st.builds(
        requests.Events,
        since=st.none() | instants,
        events=st.lists(text, max_size=3).map(tuple),
        job=st.none() | job_ids,
        worker=st.none() | text,
        limit=st.integers(1, requests.MAX_LISTED),
    ),
    st.builds(requests.Version),
    st.builds(requests.Fetch, job=job_ids, output=text, offset=offsets),
)


@given(REQUESTS)
def test_a_request_arrives_as_it_was_sent(request: requests.Request) -> None:
    body = requests.encode(request)
    assert requests.decode(body) == request
    assert msgspec.json.decode(body)["v"] == requests.PROTOCOL
    assert msgspec.json.decode(body)["verb"] == requests.verb(request)


@given(st.binary(max_size=200) | REQUESTS.map(requests.encode).map(lambda body: body[:-3]))
def test_bytes_that_are_no_request_are_refused_with_a_reply(body: bytes) -> None:
    with pytest.raises(requests.RequestError) as refused:
        requests.decode(body)
    assert refused.value.reply.code == Code.BAD_REQUEST
    assert refused.value.reply.message


def refusal(body: bytes) -> replies.Error:
    with pytest.raises(requests.RequestError) as refused:
        requests.decode(body)
    return refused.value.reply


def test_another_protocol_version_is_refused_naming_both() -> None:
    reply = refusal(b'{"v":7,"verb":"not even known here","new":1}')
    assert reply.code == Code.VERSION_MISMATCH
    assert "protocol 7" in reply.message
    assert f"speaks {requests.PROTOCOL}" in reply.message


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"verb":"status"}', "`v`"),
        (b'{"v":1,"verb":"statsu"}', "statsu"),
        (b'{"v":1,"verb":"status","colour":1}', "colour"),
        (b'{"v":1,"verb":"scale","workers":-1}', "workers"),
        (b'{"v":1,"verb":"show"}', "job"),
        (b'{"v":1,"verb":"wait","jobs":[]}', "jobs"),
        (b'{"v":1,"verb":"wait","jobs":["a"],"timeout_s":61}', "timeout_s"),
        (b'{"v":1,"verb":"jobs","limit":1001}', "limit"),
        (b'{"v":1,"verb":"submit_open","name":"a","bytes":1,"priority":1001}', "priority"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(body: bytes, named: str) -> None:
    reply = refusal(body)
    assert reply.code == Code.BAD_REQUEST
    assert named in reply.message


def test_a_request_beyond_the_limit_is_refused_unread() -> None:
    request = requests.Show(job="x")
    padded = requests.encode(request)[:-1] + b" " * requests.MAX_BODY + b"}"
    assert str(requests.MAX_BODY) in refusal(padded).message


def test_a_request_nested_beyond_reason_is_refused() -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    body = b'{"v":1,"verb":"submit_open","name":"a","bytes":1,"options":{"a":' + deep + b"}}"
    assert refusal(body).code == Code.BAD_REQUEST


def test_every_reply_has_its_own_name() -> None:
    tags = [str(kind.__struct_config__.tag) for kind in get_args(replies.Reply)]
    assert len(set(tags)) == len(tags)


def test_a_reply_arrives_as_it_was_sent() -> None:
    job = views.JobView(
        job="1",
        source=views.JobSource(kind="inbox", name="a/meeting.wav"),
        state="failed",
        priority=0,
        attempts=2,
        created="2026-01-31T12:00:00.000Z",
        error=views.JobError(code="crashed", message="worker w-3 died"),
    )
    reply = replies.Jobs(views.JobsView(jobs=(job,)))
    assert replies.decode(replies.encode(reply)) == reply


def test_a_client_ignores_what_a_newer_daemon_adds() -> None:
    body = b'{"reply":"scaled","scale":{"configured":3,"previous":2,"why":"?"},"more":1}'
    assert replies.decode(body) == replies.Scaled(views.ScaleView(configured=3, previous=2))


def test_a_job_has_every_key_of_the_contract_also_when_null() -> None:
    job = views.JobView(
        job="1",
        source=views.JobSource(kind="inbox", name="a.wav"),
        state="queued",
        priority=0,
        attempts=0,
        created="2026-01-31T12:00:00.000Z",
    )
    assert list(msgspec.json.decode(msgspec.json.encode(job))) == [
        "job", "source", "state", "priority", "attempts", "created", "started", "finished",
        "duration_s", "progress_s", "worker", "outputs", "error",
    ]  # fmt: skip


def documented(column: str) -> dict[str, str]:
    """The rows of the documentation's tables whose header begins with `column`."""
    rows: dict[str, str] = {}
    inside = False
    for line in DOCS.read_text().splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            inside = cells[0] == column if not inside and "`" not in line else inside
            if inside and (name := re.fullmatch(r"`(\w+)`", cells[0])):
                rows[name[1]] = cells[1]
        else:
            inside = False
    return rows


def test_the_documentation_lists_the_error_codes_there_are() -> None:
    assert documented("code") == {code.value: code.sentence for code in Code}


def test_the_documentation_lists_the_verbs_and_fields_there_are() -> None:
    table = documented("verb")
    assert set(table) == requests.VERBS
    for kind in get_args(requests.Request):
        fields = set(kind.__struct_fields__) - {"v"}
        assert fields == set(re.findall(r"`(\w+)`", table[str(kind.__struct_config__.tag)]))


def test_the_documentation_shows_a_status_that_is_one() -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    status = next(block for block in blocks if block.startswith('{"daemon"'))
    view = msgspec.json.decode(status, type=views.StatusView)
    assert msgspec.json.decode(msgspec.json.encode(view)) == msgspec.json.decode(status)
    job = next(block for block in blocks if block.startswith('{"job"'))
    shown = msgspec.json.decode(job, type=views.JobView)
    assert msgspec.json.decode(msgspec.json.encode(shown)) == msgspec.json.decode(job)
    wishes = next(block for block in blocks if block.startswith('{"languages"'))
    assert options.decode(wishes).priority == 5


@pytest.mark.parametrize(
    ("begins", "kind"), [('{"worker"', LifeView), ('{"soft_bytes"', MemoryView)]
)
def test_the_documentation_shows_lives_and_memory_as_they_are(
    begins: str, kind: type[msgspec.Struct]
) -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    shown = next(block for block in blocks if block.startswith(begins))
    view = msgspec.json.decode(shown, type=kind)
    assert msgspec.json.decode(msgspec.json.encode(view)) == msgspec.json.decode(shown)


def test_every_way_an_attempt_can_end_has_a_code() -> None:
    codes = {code.value for code in Code}
    assert {kind.value for kind in FailureKind} - codes == {"invalid"}  # shown as invalid_audio


def test_every_verb_has_a_role() -> None:
    from sttd.supervisor.access import ROLES  # noqa: PLC0415 - the one place it is needed

    assert set(ROLES) == requests.VERBS
