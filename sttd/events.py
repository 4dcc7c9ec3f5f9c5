"""The catalogue: every event that may be logged and published, with its level and its fields.

Values only. docs/events.md is the same for people, and a test compares the two. Names are a
promise to scripts: they are added to, never renamed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["debug", "info", "warning", "error"]

# What every record carries beside the fields of its event.
ALWAYS = ("timestamp", "level", "event")

FIELDS: dict[str, str] = {
    "age_s": "seconds since the worker was forked",
    "attempt": "number of this attempt, from 1",
    "break_before_make": "true where memory_budget bears no standby: the old goes first",
    "bytes": "length of the recording",
    "changed": "keys whose values differ",
    "code": "error code, see protocol.md",
    "config": "configuration file that was named; empty when none was",
    "delay_s": "seconds until the job may run again",
    "detail": "what the engine said, in one line",
    "dropped": "lines left out of the log, told once at the end",
    "duration_s": "seconds of audio in the recording; null where unknown",
    "engine": "name of the engine",
    "epoch": "number of the template, counted up",
    "exit_code": "of a process that ended by itself",
    "files": "originals removed",
    "job": "job id",
    "key": "key of the configuration, or the client's idempotency key of a job",
    "kind": "where the job came from: inbox, control or url",
    "left_s": "seconds until the recording is done, at that speed; null: not known yet",
    "line": "one line as it was printed",
    "logger": "name of the library's logger",
    "message": "what happened, in one line",
    "outputs": "paths beneath the outbox, the manifest last",
    "pid": "process id",
    "position_s": "seconds of audio handed to the engine",
    "priority": "higher runs first",
    "ready_s": "seconds from the decision to fork it to the worker's first word",
    "reason": "why the worker leaves: a key of `recycles` in `sttctl status`",
    "reasons": "what is wrong, one line each",
    "requests": "jobs the worker has finished",
    "restart": "changed keys that wait for a restart",
    "rows": "rows of the ledger deleted",
    "rss_after": "resident bytes after tidying up",
    "rss_before": "resident bytes before tidying up",
    "rss_bytes": "resident bytes when last sampled",
    "segments": "segments concerned",
    "signal": "number of the signal that ended or stops a process",
    "source": "name of the recording, printable",
    "speed": "seconds of audio done in a second; null: not known yet",
    "start": "how workers come to be: fork or spawn",
    "state": "state of the engine's service: ok, throttled, unavailable, unauthorized",
    "state_dir": "the state directory",
    "trace": "stack of an unexpected error",
    "uptime_s": "seconds since the daemon started",
    "version": "of sttd, or of the engine",
    "what": "which message came too late",
    "where": "file and line, or variable, that is meant",
    "worker": "worker id; null when none was involved",
}


class Event(msgspec.Struct, frozen=True):
    """An event. `when` is (field, value, level): with that value the level is another."""

    level: Level
    fields: frozenset[str]
    help: str
    when: tuple[str, str, Level] | None = None

    def level_of(self, fields: dict[str, object]) -> Level:
        """The level of one record."""
        if self.when is not None and fields.get(self.when[0]) == self.when[1]:
            return self.when[2]
        return self.level


def _event(
    level: Level, fields: str, text: str, when: tuple[str, str, Level] | None = None
) -> Event:
    return Event(level, frozenset(fields.split()), text, when)


_PROCESS = "worker pid "
_LIFE = _PROCESS + "reason requests rss_bytes age_s break_before_make "
_JOB = "job source "
_RUN = _JOB + "attempt worker "
_OUTCOME = _RUN + "code message "

EVENTS: dict[str, Event] = {
    # -- the daemon
    "daemon.started": _event(
        "info", "version pid state_dir config", "the configuration is read and the lock is held"
    ),
    "daemon.ready": _event("info", "pid engine version", "submissions are accepted"),
    "daemon.draining": _event("info", "", "no job starts any more; what arrives waits"),
    "daemon.drained": _event("info", "", "the last running job is finished"),
    "daemon.resumed": _event("info", "", "jobs start again"),
    "daemon.stopping": _event("info", "signal", "asked to leave; running jobs may finish"),
    "daemon.stopped": _event("info", "uptime_s exit_code", "everything is closed"),
    "daemon.degraded": _event(
        "warning", "reasons", "it works less well than configured; said again when reasons change"
    ),
    "daemon.recovered": _event("info", "reasons", "all of these reasons are over"),
    "daemon.failed": _event("error", "message trace", "it cannot go on, and leaves"),
    # -- the configuration
    "config.reloaded": _event(
        "info", "changed restart", "a new configuration is in force, but for `restart`"
    ),
    "config.rejected": _event("error", "message", "a new configuration is wrong; the old holds"),
    "config.warning": _event(
        "warning", "where key message", "the configuration has something that takes no effect"
    ),
    # -- the template
    "template.started": _event("debug", "epoch pid", "it begins to import the engine"),
    "template.ready": _event(
        "info", "epoch pid engine version start rss_bytes", "the engine is loaded"
    ),
    "template.exited": _event("warning", "epoch message", "it is gone; another one is started"),
    "template.broken": _event("error", "epoch message", "the engine cannot be loaded"),
    # -- workers
    "worker.spawned": _event("info", _PROCESS, "the process exists"),
    "worker.ready": _event("info", _PROCESS + "ready_s", "it can take a job"),
    "worker.retiring": _event("info", _LIFE, "it was asked to leave"),
    "worker.killed": _event("warning", _LIFE, "SIGKILL was sent"),
    "worker.exited": _event(
        "info",
        _LIFE + "exit_code signal message",
        "the process is gone and reaped; `exit_code` or `signal`, never both",
        ("reason", "crashed", "warning"),
    ),
    "worker.recycled": _event("info", _LIFE, "a planned end; a fresh one takes its place"),
    "worker.trimmed": _event(
        "debug", _PROCESS + "rss_before rss_after", "memory went back to the system after a job"
    ),
    "worker.late": _event(
        "warning", "worker job attempt what", "a message about an attempt that is over; dropped"
    ),
    "worker.output": _event(
        "info",
        "worker pid job line dropped",
        "a line printed by an engine or by a library below it; 200 for a job are told",
    ),
    # -- the engine
    "engine.changed": _event(
        "warning", "state detail", "the state of the engine's service", ("state", "ok", "info")
    ),
    # -- the inbox
    "inbox.rejected": _event(
        "warning", "source code message", "left where it is, and said once for this content"
    ),
    "inbox.trouble": _event("warning", "message", "the inbox cannot be read; tried again"),
    # -- jobs
    "job.accepted": _event(
        "info", _JOB + "kind bytes priority key", "durably recorded: from here on never lost"
    ),
    "job.started": _event("info", _RUN, "a worker has it"),
    "job.resumed": _event(
        "info", _RUN + "segments", "goes on behind the segments of earlier attempts"
    ),
    "job.progress": _event(
        "debug",
        _RUN + "position_s duration_s segments speed left_s",
        "at most one a second for each job",
    ),
    "job.succeeded": _event("info", _RUN + "duration_s outputs", "the outputs are published"),
    "job.requeued": _event("info", _OUTCOME + "delay_s", "it runs again as soon as it can"),
    "job.deferred": _event("warning", _OUTCOME + "delay_s", "it runs again after a pause"),
    "job.quarantined": _event("error", _OUTCOME, "it killed too many workers; job.failed follows"),
    "job.failed": _event("error", _OUTCOME, "given up; the original is in failed/"),
    "job.cancelled": _event("info", _JOB, "ended by request"),
    "job.damaged": _event(
        "warning", _JOB + "message", "a part of the recording could not be decoded"
    ),
    "job.clamped": _event(
        "warning", _JOB + "segments", "segments outside the recording were cut to fit"
    ),
    # -- other
    "cgroup.trouble": _event(
        "warning", "message", "a worker's control group cannot be used; it is watched by polling"
    ),
    "control.trouble": _event("warning", "message", "a client cannot be served as configured"),
    "upkeep.pruned": _event("info", "rows files", "what was kept long enough is gone"),
    "upkeep.trouble": _event(
        "warning", "message", "the daemon's own upkeep cannot be done; tried again"
    ),
    "notify.failed": _event(
        "warning", "job message", "a command or an address of [notify] was given up"
    ),
    "notify.dropped": _event(
        "warning", "message", "notifications come faster than they go; some are left out"
    ),
    "library.message": _event(
        "warning", "logger message trace", "a library, or asyncio, used Python's own logging"
    ),
}
