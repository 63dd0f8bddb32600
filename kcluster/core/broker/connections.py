"""Requests of clients and the order of their answers.

    frame -> header -> decode -> handler -> answer now
                                        `-> None: a Call that is answered in a later turn

Responses leave in request order on each connection (Kafka's protocol guide, "Network"): an
answer that is ready waits behind those of earlier requests. Bad bytes close the connection; so
does a version that is not served, except for ApiVersions, which says what is (KIP-511).

A connection is a TCP connection (its number is positive) or a control connection on the bus (a
negative number). Both are served by the same handlers; on the bus the response is one frame
without length prefix, with spans of files read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import handler_of
from kcluster.core.turn import Buffer, Files, Part, Span, Turn
from kcluster.errors import RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire import bus, telling
from kcluster.wire.apis import APIS, DESCRIBE_CONFIGS
from kcluster.wire.frame import RequestHeader, parse_request_header, response_frame
from kcluster.wire.message import Message, decode, encode_parts

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.quotas.quotas import Metered

OBJECTS: Final = {DESCRIBE_CONFIGS: LIMITS.described_resources}
"""Bounds of APIs that have one of their own."""

_LENGTH_PREFIX_BYTES: Final = 4
_NO_BODY: Final = memoryview(b"")


class Call:
    """One request that has not been answered yet."""

    __slots__ = (
        "_connections",
        "begun_ns",
        "body",
        "connection",
        "header",
        "host",
        "is_withheld",
        "metered",
        "mute_ms",
        "parts",
        "size",
        "spent_ns",
    )

    def __init__(
        self,
        connections: Connections,
        connection: int,
        header: RequestHeader,
        body: memoryview,
        host: str,
    ) -> None:
        self._connections = connections
        self.connection = connection
        self.header = header
        self.body = body
        """The request behind its header, for its handler only: what waits holds no frame."""
        self.host = host
        """Address of the client; empty on the bus."""
        self.parts: list[Part] | None = None
        """The response frame once it is there; empty for none."""
        self.is_withheld = False
        """The answer has nothing of what was to be fetched."""
        self.mute_ms = 0
        """For how long its connection is not read once it is answered."""
        self.metered: Metered | None = None
        """Its client's quotas; what follows is theirs, and not there without."""

    def meter(self, metered: Metered, size: int) -> None:
        """Before it is handled. `size` of its frame."""
        self.metered = metered
        self.size = size
        self.begun_ns = self.spent_ns = 0
        metered.begun(self)

    @property
    def client_host(self) -> str:
        """As Java prints an address without a name. What comes over the bus is of this machine."""
        return f"/{self.host or '127.0.0.1'}"

    def answer(self, turn: Turn, response: Message) -> None:
        """With a message in the version of the request. When that is too much for the client's
        quota, `mute_ms` is set, and what was to be fetched may be withheld."""
        header = self.header
        version = header.api_version
        if not APIS[header.api_key].serves(version):
            # Only ApiVersions comes this far in a version that is not served (KIP-511).
            version = 0
        if self.metered is not None:
            response = self.metered.answer(self, response, turn.now_ms)
        self.answer_parts(turn, encode_parts(response, version))

    def answer_parts(self, turn: Turn, body: list[Part]) -> None:
        """With a body that is encoded already."""
        header = self.header
        self.parts = response_frame(header.api_key, header.api_version, header.correlation_id, body)
        self._connections.answered(turn, self)

    def forget(self, turn: Turn) -> None:
        """Done, and there is no answer (acks=0)."""
        if self.metered is not None:
            self.metered.unanswered(self, turn.now_ms)
        self.parts = []
        self._connections.answered(turn, self)

    def close(self, turn: Turn) -> None:
        """Close the connection instead of answering."""
        self._connections.close(turn, self.connection)


class Connections:
    """The calls under way of every connection, oldest first."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._calls: dict[int, deque[Call]] = {}
        self.throttled = telling.Throttled()

    def request(
        self, broker: BrokerCore, connection: int, frame: memoryview, turn: Turn, host: str = ""
    ) -> None:
        """Serve one frame. It must be writable, and hold until the end of the turn."""
        try:
            header, position = parse_request_header(frame)
            handler = handler_of(header.api_key)
            if handler is None:
                raise RemoteProtocolError(f"api key {header.api_key} is not served")
            call = Call(self, connection, header, frame[position:], host)
            if broker.quotas.is_active:
                metered = broker.quotas.of(header.client_id)
                if metered is not None:
                    call.meter(metered, len(frame))
            api = APIS[header.api_key]
            if api.serves(header.api_version):
                message = decode(
                    api.request,
                    frame,
                    header.api_version,
                    position,
                    objects=OBJECTS.get(header.api_key, LIMITS.request_objects),
                )
            else:
                # ApiVersions: the answer says what is served, whatever the body may hold.
                message = api.request()
        except RemoteProtocolError:
            self.close(turn, connection)
            return
        calls = self._calls.get(connection)
        if calls is None:
            calls = self._calls[connection] = deque()
        calls.append(call)
        response = handler(broker, call, message, turn)
        call.body = _NO_BODY
        if response is not None:
            call.answer(turn, response)
        if call.metered is not None:
            call.metered.handled(call, turn.now_ms)

    def answered(self, turn: Turn, call: Call) -> None:
        """Let out what is not behind an answer that is still missing."""
        connection = call.connection
        calls = self._calls.get(connection)
        if calls is None:
            return
        while calls:
            first = calls[0]
            parts = first.parts
            if parts is None:
                return
            calls.popleft()
            if first.mute_ms:
                before = self.throttled
                self.throttled = telling.Throttled(
                    before.requests + 1, before.total_ms + first.mute_ms
                )
            if connection >= 0:
                # Also without parts: the world counts requests in flight by their replies.
                turn.reply(connection, parts, first.mute_ms)
            elif parts:
                turn.send(connection, bus.KafkaResponse(), [self._joined(parts)])
        if connection < 0:
            # Nobody says when a control connection goes away.
            self._calls.pop(connection, None)

    def close(self, turn: Turn, connection: int) -> None:
        """What was answered before still leaves; what was not never will."""
        self._calls.pop(connection, None)
        if connection >= 0:
            turn.closes.append(connection)

    def disconnected(self, connection: int) -> None:
        self._calls.pop(connection, None)

    def waiting(self, connection: int) -> int:
        """Calls of it that are not answered."""
        return len(self._calls.get(connection, ()))

    def _joined(self, parts: list[Part]) -> bytes:
        buffers: list[Buffer] = []
        for part in parts:
            if isinstance(part, Span):
                buffers.append(self._files.read(part.path, part.position, part.size))
            else:
                buffers.append(part)
        return b"".join(buffers)[_LENGTH_PREFIX_BYTES:]
