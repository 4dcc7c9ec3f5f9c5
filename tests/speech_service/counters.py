"""What the local Speech service has seen, for tests to look at: values with no behaviour."""

from __future__ import annotations

from typing import Any

import msgspec


class Turn(msgspec.Struct, kw_only=True):
    """One speech.context and the audio after it."""

    request_id: str
    context: dict[str, Any]
    start_ticks: int  # where in the session's audio it begins, from the context's continuation
    audio_bytes: int = 0  # PCM, without the RIFF header
    largest_message: int = 0  # of audio, headers included
    ended: bool = False  # the client said: end of stream


class Session(msgspec.Struct, kw_only=True):
    """All connections with one X-ConnectionId: one recognizer's session."""

    connection_id: str
    query: dict[str, str]
    path: str
    user_agent: str
    keys: list[str] = []  # one for each connection, "" where absent
    tokens: list[str] = []
    config: dict[str, Any] = {}
    turns: list[Turn] = []
    phrases: int = 0
    telemetry: int = 0
    closed: int = 0  # connections ended

    @property
    def audio_bytes(self) -> int:
        """PCM received over all connections and turns, replays counted again."""
        return sum(turn.audio_bytes for turn in self.turns)


class Counters(msgspec.Struct, kw_only=True):
    """The service's life so far."""

    upgrades: int = 0  # requests for a websocket, refused ones included
    refused: int = 0
    now: int = 0  # connections open
    peak: int = 0
    sessions: dict[str, Session] = {}

    @property
    def audio_bytes(self) -> int:
        """PCM received by all sessions."""
        return sum(session.audio_bytes for session in self.sessions.values())
