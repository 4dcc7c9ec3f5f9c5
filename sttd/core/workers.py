"""A worker's states, the moves between them, and what the core remembers of a worker.

Values and one table; decides nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from sttd.core.jobs import Job
from sttd.core.recycling import Vitals


class WorkerState(enum.StrEnum):
    """As `sttctl status` shows it."""

    STARTING = "starting"
    STANDBY = "standby"
    IDLE = "idle"
    BUSY = "busy"
    RETIRING = "retiring"


# A worker that dies leaves the roster from any state.
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.STANDBY, WorkerState.RETIRING}),
    WorkerState.STANDBY: frozenset({WorkerState.IDLE, WorkerState.RETIRING}),
    WorkerState.IDLE: frozenset({WorkerState.BUSY, WorkerState.RETIRING, WorkerState.STANDBY}),
    WorkerState.BUSY: frozenset({WorkerState.IDLE, WorkerState.RETIRING}),
    WorkerState.RETIRING: frozenset(),
}


@dataclass(slots=True)
class Run:
    """A job on a worker, and how far it is."""

    job: Job
    started: float
    progressed: float  # when the position or the segments last grew
    position_s: float = 0.0
    segments: int = 0  # committed by this attempt
    duration_s: float | None = None
    announced: float = 0.0  # when job.progress was last told
    cancelled: bool = False
    began_s: float | None = None  # the first position told: where a resumed recording goes on
    began: float = 0.0  # when that was
    writing: bool = False  # the engine is done: the worker is free in a moment
    peak: int = 0  # highest RSS seen while it ran, bytes
    outage: int = 0  # of the engine's service, that it was begun in to probe; 0: none

    def speed(self, now: float) -> float | None:
        """Seconds of audio in a second, since the first position was told; None: not yet known."""
        if self.began_s is None or now <= self.began or self.position_s <= self.began_s:
            return None
        return (self.position_s - self.began_s) / (now - self.began)

    def left_s(self, now: float) -> float | None:
        """Seconds until the recording is done at that speed; None: not known."""
        speed = self.speed(now)
        if speed is None or self.duration_s is None:
            return None
        return max(0.0, self.duration_s - self.position_s) / speed

    def progress(self, now: float) -> dict[str, object]:
        """What job.progress says of it."""
        speed, left_s = self.speed(now), self.left_s(now)
        return {
            "position_s": round(self.position_s, 2),
            "duration_s": self.duration_s,
            "segments": self.segments,
            "speed": None if speed is None else round(speed, 2),
            "left_s": None if left_s is None else round(left_s, 1),
        }


WISHED = ("requested", "reloaded")  # reasons to replace a worker with which nothing is wrong


@dataclass(slots=True)
class Worker:
    """A worker's life so far. Times are the daemon's monotonic seconds."""

    id: str
    generation: int
    slot: int
    template: int  # epoch it is forked from
    extra: int  # jobs beyond max_requests, drawn when it was forked
    started: float
    state: WorkerState = WorkerState.STARTING
    pid: int | None = None
    requests: int = 0
    run: Run | None = None
    due: str | None = None  # reason to leave as soon as it is idle and replaced
    ending: str | None = None  # reason it was told to leave or killed
    killed: bool = False
    unreplaced: bool = False  # it left before another could take its place: break before make
    starved: bool = False  # killed by the kernel at its control group's limit
    kill_at: float | None = None  # end of its grace
    decided: float | None = None  # when it was told to leave or killed
    vitals: Vitals = field(default_factory=Vitals)
    base: int = 0  # RSS in bytes when it became ready
    tidy: int = 0  # RSS in bytes after its last job

    def forgive(self, seconds: float) -> None:
        """Nobody could see what it did for so long: that time counts for none of its deadlines."""
        if self.state is WorkerState.STARTING:
            self.started += seconds
        if self.kill_at is not None:
            self.kill_at += seconds
        if self.run is not None:
            self.run.started += seconds
            self.run.progressed += seconds

    def may_work_on(self, most: int) -> bool:
        """Whether it could do another job though it is to be replaced; `most` 0 is no limit."""
        return self.due in WISHED and not (most and self.requests >= most)

    def move(self, state: WorkerState) -> None:
        """Go to `state`; an illegal move is our own inconsistency."""
        assert state in TRANSITIONS[self.state], f"{self.id}: {self.state} -> {state}"
        self.state = state
