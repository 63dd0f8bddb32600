"""ZeroMQ between our processes: one inbox, and one outlet for each peer.

    ROUTER  bound at this incarnation's own endpoint     <- DEALERs of all peers, control clients
    DEALER  to each peer, connected to its endpoint      -> that peer's ROUTER

An endpoint belongs to one incarnation, and a new incarnation gets a new DEALER: what ZeroMQ still
held for the dead is dropped with the old one (LINGER 0) and never reaches the successor. On top
of that the receiver drops every message that names another incarnation of itself, or comes from
an older one of the sender than it has heard of. A DEALER introduces itself as
`p<id>.<incarnation>`; connections that do not are control connections, and get a negative id
each, by which they are answered through the ROUTER. They may ask, and nothing else: what server
processes say to each other is dropped when it comes from one. Who may connect at all is a matter
of the directory that the sockets are in; beyond that a message is believed by its introduction.

Nothing here blocks: a message that a socket does not take is dropped and counted, which every
user of the bus must survive anyway. ZeroMQ's descriptor is edge-triggered: any call on the ROUTER
may swallow its signal, so it is asked for more after every turn. Its sockets are called through
`zmq.backend`, past pyzmq's conveniences (0.9 us a frame against 2). Heartbeats stay off: the
supervisor sees deaths by pidfd, the controller silence by its own heartbeats, and a paused
process shall find its connections as they were.
"""

from __future__ import annotations

import re
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import zmq
from zmq.backend import Socket as Raw

from kcluster.core.turn import Buffer, Event, Received, Send
from kcluster.limits import LIMITS
from kcluster.model import SUPERVISOR
from kcluster.wire.bus import (
    QUESTIONS,
    SPEAKER,
    Announce,
    Envelope,
    ProcessState,
    decode,
    encode,
)

FIRST_CONTROL_ID = SUPERVISOR - 1
CONTROL_CONNECTIONS = 1000
"""Control connections remembered; the one silent for longest is forgotten first."""

ZERO_COPY_BYTES = 256 << 10
"""From here on ZeroMQ sends out of our memory instead of a copy (measured: 3.1 against 4.2 GB/s
at this size; below it the copy costs nothing)."""

VIEW_BYTES = 16 << 10
"""From here on a received payload frame is handed on as a view of ZeroMQ's memory."""

MESSAGES_PER_WAKE = 256
BYTES_PER_WAKE = 8 << 20

RECONNECT_FIRST_MS = 2
RECONNECT_LAST_MS = 100
HANDSHAKE_MS = 3000

ALIVE = ("starting", "running", "paused")

_recv: Final[Callable[..., Any]] = Raw.recv
_send: Final[Callable[..., Any]] = Raw.send
_get: Final[Callable[..., Any]] = Raw.get
# Plain ints: enum members cost an attribute access and a conversion for each call.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_NOW: Final = int(zmq.DONTWAIT)
_MORE: Final = int(zmq.SNDMORE | zmq.DONTWAIT)

_PEER_IDENTITY = re.compile(rb"p(-?[0-9]{1,9})\.([0-9]{1,18})")


def peer_identity(id: int, incarnation: int) -> bytes:
    """What the DEALER of a server process calls itself."""
    return b"p%d.%d" % (id, incarnation)


class BusCounts(msgspec.Struct):
    """What was dropped, by reason; for status and tests."""

    malformed: int = 0
    """Received and no envelope of ours."""
    misdirected: int = 0
    """Meant for another process or incarnation, or not from whom it said."""
    stale: int = 0
    """From an incarnation that has been replaced."""
    oversized: int = 0
    """Of more frames or bytes than a message may have."""
    unreachable: int = 0
    """To somebody who is not there."""
    overflowed: int = 0
    """To a socket whose queue is full."""


class _Peer(msgspec.Struct):
    incarnation: int
    endpoint: str
    dealer: zmq.Socket[bytes] | None
    """None while it is known to be dead."""


class Bus:
    def __init__(
        self,
        id: int,
        incarnation: int,
        endpoint: str,
        loop: AbstractEventLoop,
        *,
        supervisor: ProcessState | None = None,
    ) -> None:
        """Binds `endpoint` at once; `self.endpoint` is what it became (tcp with port `*`).
        ZMQError when it is taken. An `Announce` from the supervisor is applied here and also
        given to the core; the supervisor itself, which is in no announcement, is given as
        `supervisor` (its id is SUPERVISOR), or calls `peers_changed` for its own bus."""
        self.id = id
        self.incarnation = incarnation
        self.counts = BusCounts()
        self._loop = loop
        self._post: Callable[[Event], None] | None = None
        self._is_armed = False
        self._peers: dict[int, _Peer] = {}
        self._control_ids: dict[bytes, int] = {}
        """By routing identity, the one silent for longest first."""
        self._control_identities: dict[int, bytes] = {}
        self._next_control_id = FIRST_CONTROL_ID
        self._context: zmq.Context[Any] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._options(self._router)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            self._router.bind(endpoint)
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self.endpoint: str = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._fd = int(self._router.getsockopt(zmq.FD))
        if supervisor is not None:
            self._open(supervisor)

    def start(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._loop.add_reader(self._fd, self._drain)
        self.check()

    def close(self, linger_ms: int = 0) -> None:
        """At once, or after waiting so long for what is still queued. Safe to call twice."""
        if not self._context.closed:
            self._loop.remove_reader(self._fd)
            self._post = None
            self._peers.clear()
            self._context.destroy(linger=linger_ms)

    # --- peers ----------------------------------------------------------------------------

    def peers_changed(self, processes: Sequence[ProcessState]) -> None:
        """Who is where, in full: the dead and the missing are sent nothing any more."""
        announced = {process.id: process for process in processes}
        for id, peer in self._peers.items():
            if id not in announced and id != SUPERVISOR:
                self._hang_up(peer)
        for id, process in announced.items():
            if id == self.id:
                continue
            known = self._peers.get(id)
            if known is not None and known.incarnation > process.incarnation:
                continue
            if process.state not in ALIVE or not process.endpoint:
                if known is None:
                    self._peers[id] = _Peer(process.incarnation, process.endpoint, None)
                else:
                    known.incarnation = process.incarnation
                    self._hang_up(known)
            elif (
                known is None
                or known.dealer is None
                or known.incarnation != process.incarnation
                or known.endpoint != process.endpoint
            ):
                self._open(process)

    def _open(self, process: ProcessState) -> None:
        known = self._peers.get(process.id)
        if known is not None:
            self._hang_up(known)
        dealer = self._context.socket(zmq.DEALER)
        self._options(dealer)
        dealer.setsockopt(zmq.ROUTING_ID, peer_identity(self.id, self.incarnation))
        dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_LAST_MS)
        dealer.connect(process.endpoint)
        self._peers[process.id] = _Peer(process.incarnation, process.endpoint, dealer)

    def _hang_up(self, peer: _Peer) -> None:
        if peer.dealer is not None:
            peer.dealer.close(linger=0)
            peer.dealer = None

    def _options(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, LIMITS.send_queue_max)
        socket.setsockopt(zmq.RCVHWM, LIMITS.send_queue_max)
        socket.setsockopt(zmq.MAXMSGSIZE, LIMITS.bus_message_bytes)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)

    # --- out ------------------------------------------------------------------------------

    def send(self, sends: Sequence[Send]) -> None:
        shared: dict[int, zmq.Frame] = {}
        """Large payload frames by `id`: one that goes to several peers is shared by them."""
        for send in sends:
            target = send.target
            peer = self._peers.get(target)
            if peer is not None and peer.dealer is not None:
                envelope = Envelope(
                    self.id, self.incarnation, target, peer.incarnation, send.message
                )
                self._send(peer.dealer, None, encode(envelope), send.payload, shared)
                continue
            identity = self._control_identities.get(target)
            if identity is None:
                self.counts.unreachable += 1
                continue
            envelope = Envelope(self.id, self.incarnation, target, 0, send.message)
            self._send(self._router, identity, encode(envelope), send.payload, shared)

    def _send(
        self,
        socket: zmq.Socket[bytes],
        identity: bytes | None,
        head: bytes,
        payload: Sequence[Buffer],
        shared: dict[int, zmq.Frame],
    ) -> None:
        try:
            if identity is not None:
                _send(socket, identity, _MORE)
            if not payload:
                _send(socket, head, _NOW)
                return
            _send(socket, head, _MORE)
            last = len(payload) - 1
            for index, part in enumerate(payload):
                flags = _NOW if index == last else _MORE
                if len(part) < ZERO_COPY_BYTES:
                    _send(socket, part, flags)
                    continue
                # ZeroMQ's hold on the frame is one on our memory: an arena under it is not
                # used again before the last socket has let go (see `arenas.py`).
                frame = shared.get(id(part))
                if frame is None:
                    frame = shared[id(part)] = zmq.Frame(part, copy=False)
                _send(socket, frame, flags, False)
        except zmq.Again:
            self.counts.overflowed += 1
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counts.unreachable += 1

    # --- in -------------------------------------------------------------------------------

    def check(self) -> None:
        """At the end of every turn: a send may have swallowed the descriptor's signal."""
        if not self._is_armed and self._post is not None and _get(self._router, _EVENTS) & _POLLIN:
            self._is_armed = True
            self._loop.call_soon(self._drain_armed)

    def _drain_armed(self) -> None:
        self._is_armed = False
        self._drain()

    def _drain(self) -> None:
        """Take what is there, but not so much that the Kafka sockets starve."""
        router = self._router
        post = self._post
        if post is None or router.closed:
            return
        messages = 0
        size = 0
        while _get(router, _EVENTS) & _POLLIN:
            if messages >= MESSAGES_PER_WAKE or size >= BYTES_PER_WAKE:
                if not self._is_armed:
                    self._is_armed = True
                    self._loop.call_soon(self._drain_armed)
                return
            messages += 1
            identity = _recv(router, _NOW)
            head = _recv(router, _NOW, False)
            payload: list[Buffer] = []
            frame = head
            bytes_left = LIMITS.bus_message_bytes
            is_oversized = False
            while frame.more:
                frame = _recv(router, _NOW, False)
                length = len(frame)
                size += length
                bytes_left -= length
                if bytes_left < 0 or len(payload) >= LIMITS.bus_frames:
                    # Taken to its end, or the next message would begin in its middle.
                    is_oversized = True
                    payload.clear()
                elif not is_oversized:
                    payload.append(frame.bytes if length < VIEW_BYTES else frame.buffer)
            if is_oversized:
                self.counts.oversized += 1
                continue
            event = self._open_envelope(identity, head.bytes, payload)
            if event is not None:
                post(event)

    def _open_envelope(
        self, identity: bytes, head: bytes, payload: list[Buffer]
    ) -> Received | None:
        try:
            envelope = decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.counts.malformed += 1
            return None
        if envelope.target != self.id or envelope.target_epoch not in (0, self.incarnation):
            self.counts.misdirected += 1
            return None
        introduced = _PEER_IDENTITY.fullmatch(identity)
        if introduced is None:
            if type(envelope.message) not in QUESTIONS:
                self.counts.misdirected += 1
                return None
            return Received(self._control_id(identity), 0, envelope.message, payload)
        source = int(introduced[1])
        incarnation = int(introduced[2])
        if envelope.source != source or envelope.source_epoch != incarnation:
            self.counts.misdirected += 1
            return None
        # A newer incarnation than announced is one whose announcement is still on its way.
        known = self._peers.get(source)
        if known is not None and incarnation < known.incarnation:
            self.counts.stale += 1
            return None
        if source == SUPERVISOR and (known is None or incarnation != known.incarnation):
            # It has none that come later: whoever it starts dies with it.
            self.counts.misdirected += 1
            return None
        message = envelope.message
        if SPEAKER.get(type(message), source) != source:
            self.counts.misdirected += 1
            return None
        if type(message) is Announce:
            self.peers_changed(message.processes)
        return Received(source, incarnation, message, payload)

    def _control_id(self, identity: bytes) -> int:
        id = self._control_ids.pop(identity, None)
        if id is None:
            if len(self._control_ids) >= CONTROL_CONNECTIONS:
                oldest = next(iter(self._control_ids))
                del self._control_identities[self._control_ids.pop(oldest)]
            id = self._next_control_id
            self._next_control_id -= 1
            self._control_identities[id] = identity
        self._control_ids[identity] = id
        return id
