"""A running cluster as it changes: what its processes push, put together as snapshots and events.

    supervisor   Watch -> Description at 1 Hz and at each change; Follow -> events
    coordinator  Watch -> Image when the metadata changed
    brokers      Watch -> Replicas: what changed

Every push counts from 0; who finds one missing asks again, and is told everything. Leases are
renewed well before they end, so a watcher that dies costs nobody more than one of them. What a
broker that is down held is shown as it was when it was last heard of.
"""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
import zmq

from kcluster.client.control import EXIT_NOT_RUNNING, ControlTimeout, make_dealer
from kcluster.client.snapshot import ClusterSnapshot, Holdings, compose
from kcluster.core.metadata import records
from kcluster.core.metadata.image import ClusterImage
from kcluster.model import COORDINATOR
from kcluster.wire import bus, telling
from kcluster.wire import control as c
from kcluster.wire.events import ClusterEvent
from kcluster.world import platform

LEASE_MS = 10_000
RENEW_S = 3.0
SILENT_S = 3 * RENEW_S
"""A supervisor that has said nothing for so long is gone, or stands still."""

GONE_S = 1.5
"""After so long a silence its process is looked for."""

IMAGE_AGAIN_S = 1.0
"""How often brokers are asked for the image while no coordinator runs."""


class Sight(NamedTuple):
    snapshot: ClusterSnapshot
    events: list[ClusterEvent]
    """New ones since the last sight, in their order."""


class _Source:
    """One server process that pushes."""

    def __init__(self, socket: zmq.Socket[bytes], state: bus.ProcessState) -> None:
        self.socket = socket
        self.state = state
        self.request = 0
        self.expected = 0
        """The `told` of its next push."""
        self.asked_s = 0.0

    def ask(self, message: bus.Message) -> None:
        envelope = bus.Envelope(0, 0, self.state.id, self.state.incarnation, message)
        try:
            self.socket.send(bus.encode(envelope), zmq.NOBLOCK)
        except zmq.Again:
            return


class Watch:
    """Of one cluster, used by one thread."""

    def __init__(
        self, name: str, endpoint: str, *, interval_ms: int = 250, after: int = -1
    ) -> None:
        """`endpoint` of the supervisor. Events are told behind the seq `after`; -1: from now."""
        self.name = name
        self._interval_ms = interval_ms
        self._after = after
        self._context: zmq.Context[Any] = zmq.Context()
        self._supervisor = make_dealer(self._context, endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._supervisor, zmq.POLLIN)
        self._numbers = itertools.count(1)
        self._follows, self._watches = next(self._numbers), next(self._numbers)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(c.Answered)
        self._asked_s = 0.0
        self._heard_s = time.monotonic()
        self._sources: dict[tuple[int, int], _Source] = {}
        """By (id, incarnation)."""
        self._description: c.Description | None = None
        self._image: ClusterImage | None = None
        self._image_asked_s = 0.0
        self._holdings: dict[int, Holdings] = {}
        self._events: list[ClusterEvent] = []
        self._seen_s = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def look(self) -> Sight:
        """The next sight, an interval after the last one. ControlTimeout when the supervisor is
        gone, or has not answered for SILENT_S."""
        due_s = self._seen_s + self._interval_ms / 1000
        while True:
            self._renew()
            now_s = time.monotonic()
            if now_s >= due_s and self._is_complete(now_s):
                break
            if now_s - self._heard_s > SILENT_S or self._is_gone(now_s):
                raise ControlTimeout(
                    f"the supervisor of cluster {self.name} is silent",
                    "it has ended, or was stopped",
                    "kcluster ls",
                    EXIT_NOT_RUNNING,
                )
            wait_s = due_s - now_s if due_s > now_s else 0.01
            self._receive(max(1, int(wait_s * 1000)))
        self._seen_s = now_s
        events, self._events = self._events, []
        assert self._description is not None
        return Sight(compose(self._description, self._image, self._holdings), events)

    def _is_gone(self, now_s: float) -> bool:
        """The supervisor, without a word. One that lives says something each second."""
        if self._description is None or now_s - self._heard_s < GONE_S:
            return False
        return not platform.is_alive(self._description.supervisor_pid)

    def _is_complete(self, now_s: float) -> bool:
        """All have answered for the first time, or had an interval to do so."""
        if self._description is None:
            return False
        if self._seen_s or all(source.expected for source in self._sources.values()):
            return True
        first_s = min((source.asked_s for source in self._sources.values()), default=now_s)
        return now_s - first_s > max(self._interval_ms / 1000, 1.0)

    # --- asking ---------------------------------------------------------------------------

    def _renew(self) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s > RENEW_S or not self._asked_s:
            self._asked_s = now_s
            for number, command in (
                (self._follows, c.Follow(self._after, LEASE_MS)),
                (self._watches, c.Watch(lease_ms=LEASE_MS)),
            ):
                self._supervisor.send(self._encoder.encode(c.Asked(number, command)), zmq.NOBLOCK)
        for source in self._sources.values():
            if now_s - source.asked_s > RENEW_S:
                self._ask(source, source.request)
        self._ask_brokers_for_image(now_s)

    def _ask(self, source: _Source, request: int) -> None:
        source.asked_s = time.monotonic()
        if request != source.request:
            source.request, source.expected = request, 0
        source.ask(telling.Watch(request, self._interval_ms, LEASE_MS))

    def _ask_brokers_for_image(self, now_s: float) -> None:
        if self._description is None or now_s - self._image_asked_s < IMAGE_AGAIN_S:
            return
        if any(id == COORDINATOR for id, _ in self._sources):
            return
        self._image_asked_s = now_s
        for source in self._sources.values():
            source.ask(telling.DescribeImage(0))

    # --- hearing --------------------------------------------------------------------------

    def _receive(self, wait_ms: int) -> None:
        for socket, _ in self._poller.poll(wait_ms):
            if socket is self._supervisor:
                self._hear_supervisor()
                continue
            for source in list(self._sources.values()):
                if source.socket is socket:
                    self._hear(source)

    def _hear_supervisor(self) -> None:
        while self._supervisor.poll(0):
            answer = self._decoder.decode(self._supervisor.recv()).answer
            self._heard_s = time.monotonic()
            match answer:
                case c.Told(events):
                    new = [event for event in events if event.seq > self._after]
                    if new:
                        self._after = new[-1].seq
                        self._events += new
                case c.Description():
                    self._description = answer
                    self._meet([info.state for info in answer.processes])
                case _:
                    pass

    def _meet(self, states: list[bus.ProcessState]) -> None:
        """Watch who is new, and forget who is no more."""
        running = {(s.id, s.incarnation): s for s in states if s.endpoint and s.state == "running"}
        for key in [key for key in self._sources if key not in running]:
            source = self._sources.pop(key)
            self._poller.unregister(source.socket)
            source.socket.close()
        for state in states:
            held = self._holdings.get(state.id)
            if held is not None and (state.id, state.incarnation) not in running:
                held.is_current = False
        for key, state in running.items():
            if key not in self._sources:
                source = _Source(make_dealer(self._context, state.endpoint), state)
                self._sources[key] = source
                self._poller.register(source.socket, zmq.POLLIN)
                self._ask(source, next(self._numbers))

    def _hear(self, source: _Source) -> None:
        while source.socket.poll(0):
            head, *payload = source.socket.recv_multipart()
            message = bus.decode(head).message
            if not isinstance(message, telling.Replicas | telling.Image):
                continue
            if message.request != source.request:
                if isinstance(message, telling.Image) and message.request == 0:
                    self._take_image(message, payload)
                continue
            if message.told != source.expected:
                if message.told > source.expected:
                    self._ask(source, next(self._numbers))
                continue
            source.expected += 1
            if isinstance(message, telling.Image):
                self._take_image(message, payload, is_controllers=True)
            else:
                self._take_replicas(source, message)

    def _take_image(
        self, message: telling.Image, payload: list[bytes], *, is_controllers: bool = False
    ) -> None:
        if not payload:
            return
        known = self._image
        if known is not None and not is_controllers and known.next_offset > message.metadata_offset:
            return
        image = ClusterImage()
        for record in records.decode_all(payload[0]):
            image.replay(record)
        image.next_offset = message.metadata_offset
        self._image = image

    def _take_replicas(self, source: _Source, message: telling.Replicas) -> None:
        changed = {(own.topic, own.partition): own for own in message.replicas}
        held = self._holdings.get(source.state.id)
        if message.told == 0 or held is None:
            held = self._holdings[source.state.id] = Holdings(changed)
        else:
            held.replicas.update(changed)
            for topic, partition in message.gone:
                held.replicas.pop((topic, partition), None)
        held.notices = message.notices
        held.counters = message.counters
        held.is_current = True
