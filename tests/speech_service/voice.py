"""The service's side of a turn: what is sent to the client, the script's garbage included."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.speech_service.behaviour import Behaviour
from tests.speech_service.counters import Session, Turn
from tests.speech_service.protocol import compose, ticks
from tests.speech_service.recognisers import Spoken


class Voice:
    """Speaks in one turn. `silent` makes it hold its tongue from then on."""

    def __init__(
        self, connection: ServerConnection, behaviour: Behaviour, session: Session, turn: Turn
    ) -> None:
        self.silent = False
        self._connection = connection
        self._script = behaviour
        self._session = session
        self._turn = turn
        self._started = False
        self._withheld: list[Spoken] = []
        detection = turn.context.get("phraseDetection", {})
        self._diarized = "speakerDiarization" in detection
        self._languages: list[str] = turn.context.get("languageId", {}).get("languages", [])

    async def turn_start(self) -> None:
        """The first message; without it the SDK hears nothing."""
        if self._script.turn_start:
            tag = self._turn.request_id
            await self._send("turn.start", {"context": {"serviceTag": tag}})

    async def turn_end(self) -> None:
        """The last one."""
        if self._script.turn_end:
            await self._send("turn.end", {})

    async def phrases(self, found: list[Spoken], *, last: bool = False) -> None:
        """Send what became final; after the last, the end of speech and of dictation."""
        for spoken in self._arranged(found, last=last):
            await self._phrase(spoken)
        if last:
            end = ticks(self._turn.audio_bytes)
            await self._send("speech.endDetected", {"Offset": end})
            ending = {"RecognitionStatus": "EndOfDictation", "Offset": end, "Duration": 0}
            await self._send("speech.phrase", ending)

    def _arranged(self, found: list[Spoken], *, last: bool) -> list[Spoken]:
        if not self._script.disorder:
            return found
        self._withheld += found
        pairs = len(self._withheld) if last else len(self._withheld) // 2 * 2
        ready, self._withheld = self._withheld[:pairs], self._withheld[pairs:]
        return [s for i in range(0, pairs, 2) for s in reversed(ready[i : i + 2])]

    async def _phrase(self, spoken: Spoken) -> None:
        start = ticks(spoken.start)
        if not self._started:
            self._started = True
            await self._send("speech.startDetected", {"Offset": start})
        body = self._body(spoken)
        guess = {k: body[k] for k in ("Offset", "Duration")} | {"Text": spoken.text}
        await self._send("speech.hypothesis", guess)
        await self._garbage(body)
        await self._send("speech.phrase", body)
        self._session.phrases += 1

    def _body(self, spoken: Spoken) -> dict[str, Any]:
        text = self._script.text or spoken.text
        start = ticks(spoken.start)
        body: dict[str, Any] = {
            "Id": f"{self._turn.request_id}-{start}",
            "RecognitionStatus": self._script.phrase_status or "Success",
            "DisplayText": text,
            "Offset": start,
            "Duration": ticks(spoken.end) - start,
            "Channel": 0,
        }
        words = [
            {"Word": w.text, "Offset": ticks(w.start), "Duration": ticks(w.end - w.start)}
            for w in spoken.words
        ]
        best = {"Confidence": 0.9, "Lexical": text, "ITN": text, "MaskedITN": text}
        body["NBest"] = [{**best, "Display": text, "Words": words}]
        if self._diarized:
            body["SpeakerId"] = f"Guest-{self._session.phrases % 2 + 1}"
        if self._languages:
            chosen = self._languages[self._session.phrases % len(self._languages)]
            body["PrimaryLanguage"] = {"Language": chosen, "Confidence": "High"}
        return body

    async def _garbage(self, body: dict[str, Any]) -> None:
        kind = self._script.garbage
        if kind == "text":
            await self._raw("no headers at all \u2603")
        elif kind == "binary":
            await self._raw(b"\x00\x07no:mean" + bytes(range(256)))
        elif kind == "overrun":  # headers longer than the frame: SDK 1.53 dies of it (SIGSEGV)
            await self._raw(b"\xff\xff\x00\x01garbage")
        elif kind == "json":
            whole = compose("speech.phrase", self._turn.request_id, body)
            await self._raw(whole[:-20])
        elif kind == "request_id":
            await self._raw(compose("speech.phrase", "0" * 32, body))
        elif kind == "path":
            await self._raw(compose("speech.unheard-of", self._turn.request_id, body))

    async def _send(self, path: str, body: object) -> None:
        await self._raw(compose(path, self._turn.request_id, body))

    async def _raw(self, frame: str | bytes) -> None:
        if self._script.delay_s:
            await asyncio.sleep(self._script.delay_s)
        if not self.silent:
            await self._connection.send(frame)
