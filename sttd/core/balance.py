"""Makes the pool what it should be: promotes, replaces, forks and sends away, within the budget.

Decides by calling `staff`, which knows what each step means. `now` is monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sttd.core import commands as do
from sttd.core.throttle import Slot
from sttd.core.workers import WorkerState

if TYPE_CHECKING:
    from sttd.core.staff import Staff

# at once; a template's socket holds some 270 requests (tried with Linux 6.18)
MOST_STARTING = 32
OPEN = frozenset({WorkerState.IDLE, WorkerState.BUSY})


class Balance:
    """The steps that lead from the workers there are to those there should be."""

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def strike(self, now: float, out: list[do.Command]) -> None:
        """Called after every event."""
        self._shrink(now, out)
        self._promote()
        self._replace_due(now, out)
        self._fill(now, out)
        self._staff.stuck = self._is_stuck(now)

    def _is_stuck(self, now: float) -> bool:
        staff = self._staff
        if any(staff.in_state(WorkerState.STANDBY, WorkerState.STARTING)):
            return False
        barred = [slot for slot in staff.slots if slot.worker is None and now < slot.barred_until]
        return not staff.template_ready or (bool(barred) and self._free_slot(now) is None)

    @property
    def _standby(self) -> int:
        """How many stand by: none where the memory budget bears workers only."""
        return self._staff.standby if self._staff.spare else 0

    def _shrink(self, now: float, out: list[do.Command]) -> None:
        staff = self._staff
        staying = [w for w in staff.in_state(*OPEN) if w.due != "scaled"]
        staying.sort(key=lambda w: w.state is WorkerState.IDLE)  # idle ones go first
        while len(staying) > staff.target:
            staying.pop().due = "scaled"
        there = staff.in_state(WorkerState.STANDBY, WorkerState.STARTING)
        waiting = [w for w in there if not w.due]
        due = any(w.due and w.due != "scaled" for w in staff.in_state(*OPEN))
        missing = max(0, staff.target - len(staying)) + (due and staff.spare)
        while len(waiting) > self._standby + missing:
            staff.leave(waiting.pop(), "scaled", now, out)
        for worker in list(staff.in_state(WorkerState.STANDBY)):
            if worker.due:
                staff.leave(worker, worker.due, now, out)

    def _promote(self) -> None:
        staff = self._staff
        active = sum(w.due != "scaled" for w in staff.in_state(*OPEN))
        for worker in list(staff.in_state(WorkerState.STANDBY)):
            if active >= staff.target:
                return
            worker.move(WorkerState.IDLE)
            active += 1

    def _replace_due(self, now: float, out: list[do.Command]) -> None:
        staff = self._staff
        due = [w for w in staff.in_state(WorkerState.IDLE) if w.due]
        # those that need no replacement first: they make room for the others' replacements
        for worker in sorted(due, key=lambda w: w.due != "scaled"):
            if worker.due == "scaled":
                staff.leave(worker, "scaled", now, out)
                continue
            standby = next(staff.in_state(WorkerState.STANDBY), None)
            if standby is not None:  # make before break: it is ready
                standby.move(WorkerState.IDLE)
                staff.leave(worker, worker.due or "requested", now, out)
            elif any(staff.in_state(WorkerState.STARTING)):
                continue
            elif not staff.spare:
                if self._present() < staff.target or not staff.template_ready:
                    return  # one at a time, and only when another can follow
                staff.leave(worker, worker.due or "requested", now, out, unreplaced=True)
            elif not self._extra(now, out):
                return  # every slot is barred: keep the old one until there is a place

    def _extra(self, now: float, out: list[do.Command]) -> bool:
        """Fork one replacement beyond the number of workers; one at a time."""
        if not self._can_fork():
            return False
        slot = self._free_slot(now)
        if slot is None:
            return False
        self._staff.fork(slot, now, out)
        return True

    def _fill(self, now: float, out: list[do.Command]) -> None:
        want = self._staff.target + self._standby
        while self._can_fork() and self._present() < want:
            slot = self._free_slot(now)
            if slot is None:
                return
            self._staff.fork(slot, now, out)

    def _present(self) -> int:
        return sum(
            w.state is not WorkerState.RETIRING and w.due != "scaled"
            for w in self._staff.workers.values()
        )

    def _can_fork(self) -> bool:
        """Never more than one process beyond workers and standby, those leaving included.

        Where the budget bears no standby, none beyond the workers: the old goes first.
        """
        staff = self._staff
        most = staff.target + self._standby + staff.spare
        starting = sum(1 for _ in staff.in_state(WorkerState.STARTING))
        return staff.template_ready and len(staff.workers) < most and starting < MOST_STARTING

    def _free_slot(self, now: float) -> Slot | None:
        staff = self._staff
        while len(staff.slots) < staff.target + staff.standby + 1:
            staff.slots.append(Slot(len(staff.slots)))
        return next((s for s in staff.slots if s.worker is None and now >= s.barred_until), None)
