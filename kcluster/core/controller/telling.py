"""How what is committed leaves: deltas to brokers first, then the answers that rest on it.

    answer()  --held--> committed --> sent
                            `-- a Forward's: until every unfenced broker has applied it, or
                                FORWARD_WAIT_MS (rule 10): a client that created a topic
                                finds it at any broker

Deltas go to each broker from where the last one ended, so that one that hears everything needs
nothing twice. Who missed something says so with its next heartbeat and gets it from there on:
records while they are in memory, else the whole image.

Answers with an image (`Registered`, `Image`) are filled when they leave: with what is committed
then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from kcluster.core.controller.brokers import Brokers, Session
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.metadata_log import MetadataLog
from kcluster.core.turn import Buffer, Timer, Turn
from kcluster.limits import LIMITS
from kcluster.wire import bus, telling

FORWARD_WAIT_MS = 1000
"""How long an answer waits for brokers to apply what it says (rule 10)."""

RESEND_AFTER_MS = 100
"""A broker that is behind is sent the records it lacks again, but not those on their way."""


class ForwardTimer(Timer):
    """An answer may have waited long enough for brokers."""


class Held(msgspec.Struct):
    """An answer that leaves when the metadata log is committed up to `offset`."""

    offset: int
    target: int
    message: bus.Message
    payload: Sequence[Buffer] = ()


class Spreading(msgspec.Struct):
    """A committed answer that waits until brokers have applied what it says."""

    held: Held
    deadline_ms: int


class Telling:
    def __init__(self, log: MetadataLog, image: ClusterImage, brokers: Brokers) -> None:
        self.log = log
        self.image = image
        self.brokers = brokers
        self.held: deque[Held] = deque()
        """By rising offset."""
        self._spreading: deque[Spreading] = deque()
        self._published_offset = log.end_offset
        """Deltas were sent up to here; what was loaded, brokers have, or say that they lack."""

    def answer(self, target: int, message: bus.Message, payload: Sequence[Buffer]) -> None:
        """Once all that is decided so far is committed. While the disk hangs no more than a
        bounded number is kept: the bus promises nobody an answer, who misses one asks again."""
        if len(self.held) < LIMITS.purgatory_requests:
            self.held.append(Held(self.log.end_offset, target, message, payload))

    def publish(self, turn: Turn) -> bool:
        """Tell what may be told. Whether more is committed than the last time."""
        committed = self.log.committed_offset
        is_more = committed > self._published_offset
        if is_more:
            self._published_offset = committed
            for _, session in sorted(self.brokers.sessions.items()):
                if 0 <= session.sent < committed and not session.is_silent:
                    self._send_delta(session, session.sent, turn)
        while self.held and self.held[0].offset <= committed:
            self._release(self.held.popleft(), turn)
        self._release_spread(turn)
        return is_more

    def bring_up_to_date(self, session: Session, turn: Turn) -> None:
        """Its heartbeat says that something did not arrive, or that it was silent for long."""
        if session.sent < 0 or session.applied >= self.log.committed_offset:
            return
        if turn.now_ms - session.sent_ms >= RESEND_AFTER_MS or session.sent < session.applied:
            self._send_delta(session, session.applied, turn)

    def _release(self, held: Held, turn: Turn) -> None:
        message = held.message
        match message:
            case bus.Registered():
                session = self.brokers.sessions.get(held.target)
                if session is not None and session.broker_epoch == message.broker_epoch:
                    self._send_image(session, turn)
            case telling.Image():
                image = telling.Image(message.request, self.log.committed_offset, message.told)
                turn.send(held.target, image, [r.encode_all(self.log.image.records())])
            case bus.Forwarded() if len(self._spreading) < LIMITS.purgatory_requests:
                self._spreading.append(Spreading(held, turn.now_ms + FORWARD_WAIT_MS))
                turn.after(FORWARD_WAIT_MS, ForwardTimer())
            case _:
                turn.send(held.target, message, held.payload)

    def _release_spread(self, turn: Turn) -> None:
        """In their order. A broker that is fenced meanwhile is waited for no longer."""
        if not self._spreading:
            return
        sessions = self.brokers.sessions
        alive = [id for id in sorted(sessions) if self.image.is_alive(id)]
        applied = min((sessions[id].applied for id in alive), default=self.log.end_offset)
        while self._spreading:
            first = self._spreading[0]
            if first.held.offset > applied and turn.now_ms < first.deadline_ms:
                break
            self._spreading.popleft()
            turn.send(first.held.target, first.held.message, first.held.payload)

    def _send_image(self, session: Session, turn: Turn) -> None:
        committed = self.log.committed_offset
        message = bus.Registered(session.incarnation, session.broker_epoch, committed)
        turn.send(session.broker_id, message, [r.encode_all(self.log.image.records())])
        session.sent, session.sent_ms = committed, turn.now_ms

    def _send_delta(self, session: Session, first_offset: int, turn: Turn) -> None:
        records = self.log.tail(first_offset)
        if records is None:
            self._send_image(session, turn)
            return
        committed = self.log.committed_offset
        delta = bus.MetadataDelta(first_offset, committed)
        turn.send(session.broker_id, delta, [r.encode_all(records)])
        session.sent, session.sent_ms = committed, turn.now_ms
