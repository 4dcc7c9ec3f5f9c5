"""Listings of jobs: every filter, either order, page after page, over very many rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import Ledger, listing
from sttd.supervisor.records import JobRow, Selection
from tests.support.ledger import SECOND, Clock, asynchronous, new_job, opened

START_MS = 1_800_000_000_000
KINDS = ("inbox", "control", "url")


def uuid_at(ms: int, number: int) -> str:
    digits = f"{ms:012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"


async def fill(ledger: Ledger, clock: Clock, many: int, apart_ms: int = 1000) -> None:
    """Jobs of a second each: every 7th waits, every 50th has failed, every third is a standup's."""
    together = 7
    for start in range(0, many, together):
        batch = range(start, min(start + together, many))
        clock.wall_ns = (START_MS + batch[-1] * apart_ms) * 10**6  # rows are made after their ids
        await ledger.begin(
            [
                new_job(
                    n,
                    id=uuid_at(START_MS + n * apart_ms, n),
                    kind=KINDS[n % 3],
                    name=f"{'standup' if n % 3 == 0 else 'call'}-{n}.wav",
                    stem=f"out-{n}",
                    key=f"k-{n}" if n % 5 == 0 else None,
                )
                for n in batch
            ]
        )
        ids = [uuid_at(START_MS + n * apart_ms, n) for n in batch]
        await ledger.accept(ids)
        for n, job in zip(batch, ids, strict=True):
            if n % 50 == 0:
                await ledger.fail(job, None, code="failed", message="it did", attempt=None)
            elif n % 7:
                await ledger.cancel(job, None)


async def pages(ledger: Ledger, wish: Selection) -> AsyncIterator[list[JobRow]]:
    while True:
        page = await ledger.page(wish)
        assert len(page.jobs) <= wish.limit
        yield page.jobs
        if page.next is None:
            return
        there = {"after" if wish.oldest else "before": page.next}
        wish = msgspec.structs.replace(wish, **there)


def fits(job: JobRow, wish: Selection) -> bool:
    return (
        wish.state in (None, job.state)
        and wish.kind in (None, job.kind)
        and (wish.name is None or wish.name in job.name)
        and (wish.since_ns is None or job.created_ns >= wish.since_ns)
        and (wish.until_ns is None or job.created_ns < wish.until_ns)
        and wish.key in (None, job.key)
    )


def moment(second: int | None) -> int | None:
    return None if second is None else START_MS * 10**6 + second * SECOND


WISHES = st.builds(
    lambda since, until, **rest: Selection(since_ns=moment(since), until_ns=moment(until), **rest),
    since=st.none() | st.integers(-5, 130),
    until=st.none() | st.integers(-5, 130),
    limit=st.integers(1, 50),
    state=st.none() | st.sampled_from(JobState),
    kind=st.none() | st.sampled_from(KINDS),
    name=st.none() | st.sampled_from(["standup", "-1", "nothing", ".wav"]),
    key=st.none() | st.sampled_from(["k-5", "k-6", "k-50"]),
    oldest=st.booleans(),
)


def test_every_page_of_every_listing_is_what_looking_at_all_jobs_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "WINDOW", 20)

    @asynchronous
    async def compare() -> None:
        clock = Clock()
        async with opened(tmp_path / "sttd.db", clock) as ledger:
            await fill(ledger, clock, 120)
            everything = (await ledger.page(Selection(limit=1000))).jobs
            assert len(everything) == 120

            async def check(wish: Selection) -> None:
                found = [job.id async for page in pages(ledger, wish) for job in page]
                wanted = [job.id for job in everything if fits(job, wish)]
                assert found == (wanted[::-1] if wish.oldest else wanted)

            for wish in drawn:
                await check(wish)

    drawn: list[Selection] = []

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(WISHES)
    def draw(wish: Selection) -> None:
        drawn.append(wish)

    draw()
    compare()


def pour(path: Path, many: int) -> None:
    """So many finished jobs at once, 10 ms apart, one in a thousand failed, behind its back."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL")
    connection.execute(
        """WITH RECURSIVE n(n, hex) AS (
             SELECT 0, printf('%012x', :start) UNION ALL
             SELECT n + 1, printf('%012x', :start + (n + 1) * 10) FROM n WHERE n + 1 < :many)
           INSERT INTO job (id, kind, name, signature, options, priority, size, created_ns, state,
             finished_ns, error_code, out_name, disposed)
           SELECT substr(hex, 1, 8) || '-' || substr(hex, 9) || printf('-7000-8000-%012x', n),
             'inbox', CAST(printf('call-%d.wav', n) AS BLOB), :signature, '{}', 0, 1,
             (:start + n * 10) * 1000000, iif(n % 1000, 'succeeded', 'failed'), 1,
             iif(n % 1000, NULL, 'failed'), CAST(n AS BLOB), 1 FROM n""",
        {
            "start": START_MS,
            "many": many,
            "signature": msgspec.json.encode(new_job(1).signature).decode(),
        },
    )
    connection.close()


@pytest.mark.parametrize(
    "many",
    [50_000, pytest.param(1_000_000, marks=[pytest.mark.sweep, pytest.mark.timeout(900)])],
)
def test_very_many_jobs_are_paged_through_and_searched_a_window_at_a_time(
    tmp_path: Path, many: int
) -> None:
    @asynchronous
    async def look() -> None:
        path = tmp_path / "sttd.db"
        async with opened(path):
            pass
        pour(path, many)
        async with opened(path) as ledger:
            rare = [p async for p in pages(ledger, Selection(limit=10, name="-17.wav"))]
            assert [job.name for page in rare for job in page] == ["call-17.wav"]
            assert len(rare) <= many // listing.WINDOW + 1
            failed = Selection(limit=1000, state=JobState.FAILED)
            assert sum([len(p) async for p in pages(ledger, failed)]) == many // 1000
            since = (START_MS + (many - 10) * 10) * 10**6
            late = await ledger.page(Selection(limit=1000, since_ns=since, oldest=True))
            assert [job.created_ns - since for job in late.jobs] == [n * 10**7 for n in range(10)]
            walked = [job.id async for p in pages(ledger, Selection(limit=1000)) for job in p]
            assert walked == sorted(walked, reverse=True)
            assert len(walked) == many

    look()
