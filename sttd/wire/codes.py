"""Every error code that a job, a sidecar, an attempt or a request can carry, in one place.

Names and one sentence each. Codes are a promise to scripts: they are added to, never renamed.
`docs/protocol.md` lists the same ones, and a test compares the two.
"""

from __future__ import annotations

import enum
from typing import Self


class Code(enum.StrEnum):
    """An error code; `sentence` says what it means."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """A member is its value and carries its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    # -- the recording, found out while decoding; the job fails at once
    UNDECODABLE = "undecodable", "The file is no audio that can be decoded, or it is damaged."
    NO_AUDIO = "no_audio", "The file is a media container without an audio track."
    EMPTY = "empty", "The file has no bytes."
    TOO_LONG = "too_long", "The recording is longer than limits.max_duration."
    TOO_MANY_CHANNELS = "too_many_channels", "The recording has more than limits.max_channels."
    TOO_LARGE_FOR_CEILING = (
        "too_large_for_ceiling",
        "No fresh worker could hold it below recycle.rss_ceiling, by what the latest jobs took.",
    )
    INVALID_AUDIO = "invalid_audio", "The engine says that this recording can never be transcribed."

    # -- arrival
    TOO_LARGE = "too_large", "The file is larger than limits.max_file_size."
    BAD_SIDECAR = "bad_sidecar", "The options beside the recording are not valid; it says which."

    LONE_SIDECAR = "lone_sidecar", "Options lay in the inbox too long without their recording."
    REJECTED = "rejected", "The file cannot be taken and is left where it is; the message says why."

    # -- attempts
    FAILED = "failed", "The engine failed in a way it did not explain."
    TRANSIENT = "transient", "The engine asked for another attempt, and the last one failed too."
    STALLED = "stalled", "No progress for recycle.stall_timeout."
    JOB_TIMEOUT = "job_timeout", "The attempt took longer than recycle.job_timeout allows."
    CRASHED = "crashed", "The worker died by a signal or left without an answer."
    RSS_CEILING = "rss_ceiling", "The worker's memory crossed recycle.rss_ceiling."
    QUARANTINED = "quarantined", "The job killed retry.max_crashes workers and is not tried again."
    THROTTLED = "throttled", "The service asked for fewer requests; the job waits."
    UNAVAILABLE = "unavailable", "The service cannot be reached; the job waits."
    UNAUTHORIZED = "unauthorized", "The service refused the credentials; the job waits."
    ENVIRONMENT = "environment", "The machine lacks disk space or memory; the job waits."
    SHUTDOWN = "shutdown", "The daemon was stopped during the attempt; the job goes on later."
    CANCELLED = "cancelled", "Someone cancelled the job."

    RETRY = "retry", "Someone put the finished job back into the queue."

    # -- requests on the control socket
    BAD_REQUEST = "bad_request", "The request is not one this protocol knows; it says which field."
    VERSION_MISMATCH = "version_mismatch", "Client and daemon speak different protocol versions."
    NOT_ALLOWED = "not_allowed", "The caller may not do this, or not with this path."
    DISABLED = "disabled", "The configuration has switched this off."
    BAD_OPTIONS = "bad_options", "The job's options are not valid; the message names the field."
    UNKNOWN_JOB = "unknown_job", "There is no job of this id."
    UNKNOWN_WORKER = "unknown_worker", "There is no worker of this id."
    UNKNOWN_UPLOAD = "unknown_upload", "The upload was never opened, has expired or is finished."
    UNKNOWN_OUTPUT = "unknown_output", "The job has no output of this name."
    BAD_OFFSET = "bad_offset", "The chunk does not continue the upload where it stands."
    WRONG_STATE = "wrong_state", "The job's state does not admit this."
    QUEUE_FULL = "queue_full", "limits.max_queued jobs wait already."
    BAD_CONFIG = "bad_config", "The configuration file is not valid; the old one stays in force."
    BUSY = "busy", "Too many requests or uploads at once; try again in a moment."
    NO_DAEMON = "no_daemon", "Said by sttctl itself: nobody answers at the endpoint."
    INTERNAL = "internal", "The daemon failed to answer; its log says why."
