"""Why workers end, in words: one sentence for each key of `recycles`. Values only."""

from __future__ import annotations

REASONS = {
    "max_requests": "it had done as many jobs as recycle.max_requests and its jitter allow",
    "rss_soft": "after a job its memory was above recycle.rss_soft",
    "rss_ceiling": "its memory crossed recycle.rss_ceiling, so it was killed at once",
    "predicted": "the next job would have taken it across recycle.rss_ceiling",
    "max_age": "it had become as old as recycle.max_age allows",
    "stalled": "its job made no progress for recycle.stall_timeout",
    "job_timeout": "its job took longer than recycle.job_timeout allows",
    "crashed": "it died by itself: by a signal, or without an answer",
    "threads": "it had more threads than recycle.max_threads",
    "fds": "it had more descriptors open than recycle.max_fds",
    "requested": "an operator asked for it (sttctl recycle)",
    "cancelled": "its job was cancelled",
    "reloaded": "the engine's configuration changed",
    "scaled": "fewer workers were wished for",
    "shutdown": "the daemon was stopped",
}
DECIDERS = {
    "policy": "by the recycling policy",
    "operator": "by an operator",
    "kernel": "by a signal from outside or a fault of its own",
    "itself": "by itself",
}


def because(reason: str) -> str:
    """The sentence; the bare reason where a newer daemon has one that is not known here."""
    return REASONS.get(reason, reason)
