"""Power cut at every fsync, rename and commit of arrival, running and publication.

A loop-mounted ext4 is shut down under the real daemon just before the operation, so everything
that was not synced is lost; then it is mounted again, the daemon started again, and all
invariants checked. The mutants show that the sweep would see a rule that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from _pytest.mark import ParameterSet

from tests.support import faults
from tests.support.faults import Machine, ViolationError, machine
from tests.support.tally import sweep

FAR = 10_000  # more operations than a life has

# One cut for every step of the protocol, by the operation that it comes before. The numbers are
# those of docs/reliability.md.
STEPS = {
    "3 the recording is synced in the inbox": (r"^fsync inbox/wet\.wav", 1),
    "4 the claim is committed": (r"^commit ledger .*insert_job", 1),
    "5 the sidecar is moved": (r"^rename inbox/b/c\.wav\.json", 1),
    "5 the recording is moved": (r"^rename inbox/b/c\.wav spool", 1),
    "7 the spool's folders are synced": (r"^fsync spool/XX/JOB$", 2),
    "7 the inbox is synced": (r"^fsync inbox$", 1),
    "8 job.json is synced": (r"^fsync spool/XX/JOB/job\.json", 1),
    "9 acceptance is committed": (r"^commit ledger .*accept", 2),
    "10 the start is committed": (r"^commit ledger .*claim", 2),
    "11 the worker syncs its outputs": (r"^fsync outbox/\.tmp/JOB\.1/\.json", 2),
    "12 the text is published": (r"^renameat2 outbox/\.tmp/.*c\.txt", 1),
    "12 the manifest is published": (r"^renameat2 outbox/\.tmp/.*c\.json", 1),
    "13 the outbox is synced": (r"^fsync outbox$", 4),
    "14 success is committed": (r"^commit ledger .*succeed", 1),
    "15 the original is put away": (r"^renameat2 spool/XX/JOB/audio done", 1),
    "15 the report is published": (r"^renameat2 spool/XX/JOB/error\.json", 1),
    "15 disposal is committed": (r"^commit ledger .*disposed", 1),
}


def cut_and_recover(
    m: Machine, *, mutant: dict[str, Any] | None = None, only: tuple[str, ...] = (), **cut: Any
) -> bool:
    """Whether the life was cut before it was over; the invariants hold afterwards."""
    story = faults.tell(m, *only)
    struck = faults.live(m, story, **(mutant or {}), **cut)
    if struck:
        m.reboot()
        faults.recover(m, story, deadline_s=15 if mutant else 60, **(mutant or {}))
    else:
        faults.check(m, story, faults.accepted(m))
    return struck


def test_a_life_without_a_cut_keeps_every_invariant() -> None:
    with machine(disk="256M", ledger_disk=True) as m:
        assert not cut_and_recover(m, at=FAR)
        assert len(m.trace()) > 150


# Tried in every run; the others, a few seconds each, in `make sweep`.
OFTEN = (
    "3 the recording is synced in the inbox",
    "4 the claim is committed",
    "9 acceptance is committed",
    "12 the manifest is published",
    "14 success is committed",
)
MUTANTS_OFTEN = (
    "synchronous=NORMAL",
    "the outputs are not synced",
    "no adoption of what is published",
)


def often(names: Iterable[str], chosen: tuple[str, ...]) -> list[ParameterSet]:
    return [pytest.param(n, marks=() if n in chosen else pytest.mark.sweep) for n in names]


@pytest.mark.parametrize("step", often(STEPS, OFTEN))
def test_a_power_cut_at_a_step_loses_and_doubles_nothing(step: str) -> None:
    label, nth = STEPS[step]
    # the two layouts take turns, so that the suite stays short; the sweep has both everywhere
    with machine(disk="256M", ledger_disk=list(STEPS).index(step) % 2 == 0) as m:
        assert cut_and_recover(m, label=label, nth=nth), f"never came by: {label}"


def test_a_power_cut_during_the_recovery_from_a_power_cut_loses_nothing() -> None:
    with machine(disk="256M", ledger_disk=True) as m:
        story = faults.tell(m)
        label, nth = STEPS["12 the manifest is published"]
        assert faults.live(m, story, label=label, nth=nth)
        m.reboot()
        assert faults.live(m, story, label=r"^commit ledger .*succeed")
        m.reboot()
        faults.recover(m, story)


@pytest.mark.sweep
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("layout", ["one disk", "ledger elsewhere"])
def test_a_power_cut_before_every_operation(layout: str) -> None:
    """About six seconds an operation, of some 190: twenty minutes for each layout."""
    with sweep(f"Power cut before every operation, {layout}", "lives") as tried:
        at, struck = 1, True
        while struck:
            with (
                machine(disk="256M", ledger_disk=layout != "one disk") as m,
                tried.one(f"cut {at}"),
            ):
                try:
                    struck = cut_and_recover(m, at=at)
                except (AssertionError, ViolationError) as error:
                    raise AssertionError(f"before {m.struck()!r}: {error}") from error
            at += 1
        assert at > 150


# -- mutants --------------------------------------------------------------------------------------
class Mutant(NamedTuple):
    """A rule that sttd is robbed of, and the cut that must show it."""

    robbed: dict[str, Any]
    label: str
    nth: int = 1
    after: bool = False
    only: tuple[str, ...] = ()  # the recordings, where others' fsyncs would hide what is missing


MUTANTS = {
    "synchronous=NORMAL": Mutant(
        {"mutants": ("normal",)}, r"^commit ledger .*claim", 2, after=True
    ),
    "the recording is not synced in the inbox": Mutant(
        {"skip_fsync": r"^fsync inbox/wet\.wav"}, r"^mkdir outbox/\.tmp/JOB", only=("wet.wav",)
    ),
    "the moves into the spool are not synced": Mutant(
        {"skip_fsync": r"^fsync (spool|inbox$)"}, r"^mkdir outbox/\.tmp/JOB", only=("a.wav",)
    ),
    "an upload is not synced": Mutant(
        {"skip_fsync": r"^fsync spool/\.upload"}, r"^commit ledger .*accept", after=True
    ),
    "the outputs are not synced": Mutant(
        {"skip_fsync": r"^fsync outbox/\.tmp/JOB\.1/"}, r"^commit ledger .*succeed", after=True
    ),
    "the outbox is not synced": Mutant(
        {"skip_fsync": r"^fsync outbox(/b)?$"},
        r"^commit ledger .*succeed",
        after=True,
        only=("a.wav",),
    ),
    "the originals' folders are not synced": Mutant(
        {"skip_fsync": r"^fsync (done|failed)(/b)?$"},
        r"^commit ledger .*disposed",
        after=True,
        only=("a.wav",),
    ),
    "the report is not synced": Mutant(
        {"skip_fsync": r"^fsync spool/XX/JOB/\.error\.json"},
        r"^commit ledger .*disposed",
        after=True,
        only=("bad.wav",),
    ),
    "the ledger is written before the outbox": Mutant(
        {"mutants": ("record_first",)}, r"^commit ledger .*succeed", after=True
    ),
    "no adoption of what is published": Mutant(
        {"mutants": ("no_adoption",)}, r"^commit ledger .*succeed"
    ),
}


@pytest.mark.parametrize("name", often(MUTANTS, MUTANTS_OFTEN))
def test_the_checks_turn_red_without_a_rule(name: str) -> None:
    mutant = MUTANTS[name]
    with machine(disk="256M", ledger_disk=True) as m:
        cut = {"label": mutant.label, "nth": mutant.nth, "after": mutant.after}
        with pytest.raises(ViolationError):
            assert cut_and_recover(m, mutant=mutant.robbed, only=mutant.only, **cut), (
                "the cut never came by"
            )
