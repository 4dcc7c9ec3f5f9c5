"""The local Speech service: speaks the service's protocol to the unmodified Speech SDK.

It serves loopback only, scripted faults included, and counts. It knows nothing of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.speech_service.behaviour import Access, Behaviour
from tests.speech_service.counters import Counters, Session, Turn
from tests.speech_service.protocol import BYTES_PER_SECOND, RIFF_HEADER_BYTES, Message, parse
from tests.speech_service.recognisers import Marks, PocketSphinx, Recogniser
from tests.speech_service.voice import Voice

_ACCEPT_TURNS = 4  # of the event loop, from accept to connection_made: 3


class SpeechService:
    """Serves until closed. `plan`, `access` and `counters` may be changed and read at any time."""

    def __init__(self, *, recogniser: str = "marks", access: Access | None = None) -> None:
        self.access = access or Access()
        self.plan: list[Behaviour] = [Behaviour()]
        self.counters = Counters()
        self.port = 0
        self.changed: Callable[[], None] = lambda: None
        self._recogniser = recogniser
        self._server: Server | None = None
        self._closing = asyncio.Event()
        self._behaviours: dict[int, Behaviour] = {}

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        """Listen on 127.0.0.1; the port chosen is in `port`."""
        self._closing = asyncio.Event()
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            port,
            process_request=self._admit,
            subprotocols=[Subprotocol("USP")],
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=None,
            ssl=tls,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def close(self) -> None:
        """Drop every connection at once, like a service that is restarted."""
        assert self._server is not None
        self._closing.set()  # lets go of those who were never answered
        await self._accept_no_more(self._server)
        self._server.close(close_connections=False)
        await asyncio.sleep(0)  # from here on a handshake is refused
        for connection in list(self._server.connections):
            connection.transport.abort()
        await self._server.wait_closed()

    @staticmethod
    async def _accept_no_more(server: Server) -> None:
        """Whoever was accepted gets a handler before the server closes.

        CPython 3.11's asyncio leaves a connection open and nobody's (`Server._attach` asserts)
        when its server is closed between accept and the task that makes its transport.
        """
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)

    # -- the upgrade ---------------------------------------------------------------------------
    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/_counters":
            return _plain(HTTPStatus.OK, msgspec.json.encode(self.counters))
        self.counters.upgrades += 1
        behaviour = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        self._behaviours[id(connection)] = behaviour
        self.changed()
        if behaviour.hang_upgrade:
            await self._closing.wait()
        status = behaviour.status or self._status_of(request.headers)
        if not status:
            return None
        self.counters.refused += 1
        self._behaviours.pop(id(connection))
        self.changed()
        response = _plain(HTTPStatus(status), b"scripted refusal")
        response.headers.update(behaviour.headers)
        return response

    def _status_of(self, headers: Headers) -> int:
        key, token = _credentials(headers)
        rules = self.access
        if {key, token} & set(rules.revoked):
            return HTTPStatus.UNAUTHORIZED
        if (rules.keys or rules.tokens) and key not in rules.keys and token not in rules.tokens:
            return HTTPStatus.UNAUTHORIZED
        if rules.quota and self.counters.now >= rules.quota:
            return HTTPStatus.TOO_MANY_REQUESTS
        return 0

    # -- a connection --------------------------------------------------------------------------
    async def _serve(self, connection: ServerConnection) -> None:
        behaviour = self._behaviours.pop(id(connection))
        session = self._session_of(connection)
        counters = self.counters
        counters.now += 1
        counters.peak = max(counters.peak, counters.now)
        self.changed()
        try:
            with contextlib.suppress(ConnectionClosed):
                await _Conversation(self, connection, behaviour, session).run()
        finally:
            counters.now -= 1
            session.closed += 1
            self.changed()

    def _session_of(self, connection: ServerConnection) -> Session:
        request = connection.request
        assert request is not None
        url = urllib.parse.urlsplit(request.path)
        identity = request.headers.get("X-ConnectionId", "")
        session = self.counters.sessions.setdefault(
            identity,
            Session(
                connection_id=identity,
                query=dict(urllib.parse.parse_qsl(url.query)),
                path=url.path,
                user_agent=request.headers.get("User-Agent", ""),
            ),
        )
        key, token = _credentials(request.headers)
        session.keys.append(key)
        session.tokens.append(token)
        return session

    def new_recogniser(self, behaviour: Behaviour) -> Recogniser:
        """A fresh one for each turn."""
        return PocketSphinx() if self._recogniser == "pocketsphinx" else Marks(behaviour.phrase_s)

    async def recognise(self, work: Callable[[], Any]) -> Any:
        """Run a recogniser's work: on a thread when it takes long."""
        return await asyncio.to_thread(work) if self._recogniser == "pocketsphinx" else work()


class _Conversation:
    """One websocket: turn after turn until it closes or the script ends it."""

    def __init__(
        self,
        service: SpeechService,
        connection: ServerConnection,
        behaviour: Behaviour,
        session: Session,
    ) -> None:
        self._service = service
        self._connection = connection
        self._behaviour = behaviour
        self._session = session
        self._received = 0
        self._turn: Turn | None = None
        self._voice: Voice | None = None
        self._recogniser: Recogniser = Marks()
        self._handlers: dict[str, Callable[[Message], Awaitable[None]]] = {
            "speech.config": self._on_config,
            "speech.context": self._on_context,
            "audio": self._on_audio,
            "telemetry": self._on_telemetry,
        }

    async def run(self) -> None:
        async for frame in self._connection:
            message = parse(frame)
            if self._turn is not None and isinstance(frame, bytes):
                self._turn.largest_message = max(self._turn.largest_message, len(frame))
            handler = self._handlers.get(message.path)
            if handler is not None:
                await handler(message)
            self._service.changed()

    async def _on_config(self, message: Message) -> None:
        self._session.config = message.json()

    async def _on_telemetry(self, _message: Message) -> None:
        self._session.telemetry += 1

    async def _on_context(self, message: Message) -> None:
        context = message.json()
        self._turn = Turn(
            request_id=message.request_id, context=context, start_ticks=_continuation(context)
        )
        self._session.turns.append(self._turn)
        self._recogniser = self._service.new_recogniser(self._behaviour)
        self._voice = Voice(self._connection, self._behaviour, self._session, self._turn)
        await self._voice.turn_start()

    async def _on_audio(self, message: Message) -> None:
        turn, voice = self._turn, self._voice
        if turn is None or voice is None or message.request_id != turn.request_id:
            return  # the tail of a turn that is over: replayed in the next
        if not message.body:
            turn.ended = True
            await self._finish(voice)
            return
        riff = message.body[:4] == b"RIFF"
        pcm = message.body[RIFF_HEADER_BYTES:] if riff else message.body
        turn.audio_bytes += len(pcm)
        self._received += len(pcm)
        if await self._struck(voice):
            return
        recogniser = self._recogniser
        await voice.phrases(await self._service.recognise(lambda: recogniser.hear(pcm)))
        every = self._behaviour.turn_every_s
        if every is not None and turn.audio_bytes >= every * BYTES_PER_SECOND:
            await self._finish(voice)

    async def _finish(self, voice: Voice) -> None:
        recogniser = self._recogniser
        await voice.phrases(await self._service.recognise(recogniser.finish), last=True)
        self._turn = None
        if self._behaviour.drop_at_end:
            await asyncio.sleep(0.05)  # what was said before is to arrive
            self._connection.transport.abort()
            return
        await voice.turn_end()

    async def _struck(self, voice: Voice) -> bool:
        """Whether the script ends this connection here."""
        seconds, script = self._received / BYTES_PER_SECOND, self._behaviour
        if script.silent_from_s is not None and seconds >= script.silent_from_s:
            voice.silent = True
        if script.drop_at_s is not None and seconds >= script.drop_at_s:
            self._connection.transport.abort()
            return True
        if script.close_at_s is not None and seconds >= script.close_at_s:
            await self._connection.close(script.close_code, script.close_reason)
            return True
        return False


def _credentials(headers: Headers) -> tuple[str, str]:
    token = headers.get("Authorization", "").removeprefix("Bearer ")
    return headers.get("Ocp-Apim-Subscription-Key", ""), token


def _continuation(context: dict[str, Any]) -> int:
    streams = context.get("continuation", {}).get("audio", {}).get("streams", {})
    return int((streams.get("1") or {}).get("offset", 0))


def _plain(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers({"Content-Type": "text/plain", "Content-Length": str(len(body))})
    return Response(status, status.phrase, headers, body)


def dump(counters: Counters) -> str:
    """The counters as JSON text."""
    return json.dumps(msgspec.to_builtins(counters))
