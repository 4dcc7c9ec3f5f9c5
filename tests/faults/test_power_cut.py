"""Power cut at every fsync, rename and commit of arrival, running and publication.

A loop-mounted ext4 is shut down under the real daemon just before the operation, so everything
that was not synced is lost; then it is mounted again, the daemon started again, and all
invariants checked. The mutants show that the sweep would see a rule that is missing.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests.support import faults
from tests.support.faults import Machine, ViolationError, machine

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


def cut_and_recover(m: Machine, *, mutant: dict[str, Any] | None = None, **cut: Any) -> bool:
    """Whether the life was cut before it was over; the invariants hold afterwards."""
    story = faults.tell(m)
    struck = faults.live(m, story, **(mutant or {}), **cut)
    if struck:
        m.reboot()
        faults.recover(m, story, deadline_s=20, **(mutant or {}))
    else:
        faults.check(m, story, faults.accepted(m))
    return struck


def test_a_life_without_a_cut_keeps_every_invariant() -> None:
    with machine(disk="256M", ledger_disk=True) as m:
        assert not cut_and_recover(m, at=FAR)
        assert len(m.trace()) > 150


@pytest.mark.parametrize("step", STEPS)
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
@pytest.mark.parametrize("ledger_disk", [False, True], ids=["one disk", "ledger elsewhere"])
def test_a_power_cut_before_every_operation(ledger_disk: bool) -> None:
    at = 1
    while True:
        with machine(disk="256M", ledger_disk=ledger_disk) as m:
            try:
                struck = cut_and_recover(m, at=at)
            except AssertionError as error:
                raise AssertionError(f"cut {at}, before {m.struck()!r}: {error}") from error
        if not struck:
            break
        at += 1
    assert at > 150


# -- mutants --------------------------------------------------------------------------------------
# A rule that sttd is robbed of, and the cuts of which at least one must show it.
MUTANTS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "synchronous=NORMAL": (
        {"mutants": ("normal",)},
        [{"label": r"^commit ledger .*claim", "nth": 2, "after": True}],
    ),
    "the recording is not synced in the inbox": (
        {"skip_fsync": r"^fsync inbox/wet\.wav"},
        [{"label": r"^commit ledger .*accept", "nth": 2, "after": True}],
    ),
    "the moves into the spool are not synced": (
        {"skip_fsync": r"^fsync (spool|inbox)(?!.*job\.json|/\.upload/|/wet|/a|/b/c|/bad)"},
        [{"label": r"^commit ledger .*accept", "nth": 2, "after": True}],
    ),
    "an upload is not synced": (
        {"skip_fsync": r"^fsync spool/\.upload"},
        [{"label": r"^commit ledger .*accept", "nth": 1, "after": True}],
    ),
    "the outputs are not synced": (
        {"skip_fsync": r"^fsync outbox/\.tmp/JOB\.1/"},
        [{"label": r"^commit ledger .*succeed", "nth": 1, "after": True}],
    ),
    "the outbox is not synced": (
        {"skip_fsync": r"^fsync outbox(/b)?$"},
        [{"label": r"^commit ledger .*succeed", "nth": 1, "after": True}],
    ),
    "the originals' folders are not synced": (
        {"skip_fsync": r"^fsync (done|failed)(/b)?$"},
        [{"label": r"^commit ledger .*disposed", "nth": 1, "after": True}],
    ),
    "the report is not synced": (
        {"skip_fsync": r"^fsync spool/XX/JOB/\.error\.json"},
        [{"label": r"^commit ledger disposed", "nth": 2, "after": True}],
    ),
    "the ledger is written before the outbox": (
        {"mutants": ("record_first",)},
        [{"label": r"^renameat2 outbox/\.tmp/.*\.txt", "nth": 1}],
    ),
    "no adoption of what is published": (
        {"mutants": ("no_adoption",)},
        [{"label": r"^commit ledger .*succeed", "nth": 1}],
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_checks_turn_red_without_a_rule(mutant: str) -> None:
    robbed, cuts = MUTANTS[mutant]
    for cut in cuts:
        with machine(disk="256M", ledger_disk=True) as m, contextlib.suppress(ViolationError):
            assert cut_and_recover(m, mutant=robbed, **cut), "the cut never came by"
            continue
        return
    pytest.fail(f"nobody notices: {mutant}")
