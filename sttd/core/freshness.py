"""Jobs that need a fresh worker: when one makes way for them, and what it does until then.

Decides only; the staff's states are read, never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sttd.core.recycling import most_requests
from sttd.core.workers import Worker, WorkerState

if TYPE_CHECKING:
    from sttd.core.staff import Staff

MOST_HELD = 16  # jobs in hand that wait for a fresh worker before no more are asked for


def may_work(staff: Staff, worker: Worker) -> bool:
    """Whether a worker that is to be replaced may be given a job meanwhile.

    One that makes way for a single job's sake works on until the fresh one is there: that job
    holds up nobody else.
    """
    if worker.due == "predicted":
        return staff.stuck or not any(staff.in_state(WorkerState.STANDBY))
    return staff.stuck and worker.may_work_on(most_requests(staff.policy, worker.extra))


def lacks_fresh(staff: Staff) -> bool:
    """Whether one must make way so that there is a fresh one; else one comes anyway."""
    leaving = any(worker.due for worker in staff.in_state(WorkerState.IDLE))
    promised = any(worker.due == "predicted" for worker in staff.in_state(WorkerState.BUSY))
    if staff.stuck or leaving or promised:
        return False
    ready = any(staff.in_state(WorkerState.STANDBY))
    return ready or not any(staff.in_state(WorkerState.STARTING))
