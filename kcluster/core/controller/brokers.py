"""A broker's life: register, heartbeat, fence, unfence, controlled shutdown.

                 Register                    Heartbeat, has applied what fenced it
    (unknown) -------------> fenced -----------------------------------------------> unfenced
                               ^                                                        |
                               |  session ran out, its process died, a new incarnation  |
                               +--------------------------------------------------------+

What is true of a broker is in the image (`BrokerImage`), because it must survive the controller.
A `Session` is what only this controller knows: deadlines on the monotonic clock, how far the
broker has applied the metadata log, what was sent to it. A controller that starts gives each
unfenced broker a full session (rule 6).

The broker epoch is the offset of its registration record (KIP-631), so that it rises with
every incarnation. A death names an incarnation: news of an older one changes nothing.

Sources: KIP-631 (broker lifecycle), KIP-841 (fencing and ISR), KIP-966 (lossy restarts).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kcluster.config import Settings
from kcluster.core.controller.decision import Decision
from kcluster.core.controller.partitions import Partitions
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.traces import BrokerFenced, BrokerRegistered, BrokerUnfenced
from kcluster.wire.bus import Heartbeat, ProcessState, Register

LIVING = ("starting", "running", "paused")
"""States of a process that has not ended."""


class Session(msgspec.Struct):
    broker_id: int
    incarnation: int
    broker_epoch: int
    deadline_ms: int
    """Monotonic; the broker is fenced when it is reached."""
    unfence_offset: int
    """End (exclusive) of the metadata log that it must have applied to be unfenced: its
    registration, and later what fenced it, so that it knows what it leads no longer."""
    applied: int = -1
    """End of what it has applied, by its last heartbeat."""
    sent: int = -1
    """End of what was sent to it; -1 until it has got its first image."""
    sent_ms: int = 0
    is_confirmed: bool = False
    """This controller has heard of it: by itself or from the supervisor."""
    is_silent: bool = False
    """Its session ran out: nothing is sent to it until it speaks."""
    shutdown_offset: int = -1
    """End of the decision that moved its leaderships away; -1: it does not want to go."""
    was_told_to_stop: bool = False
    nonce: int = 0
    """Of its last heartbeat."""
    last_alter: int = -1
    """Highest request number of its AlterPartitions. A copy that comes later than a newer one, or
    again, must not be granted: its sender may have heard a refusal and rolled back."""


class Brokers:
    def __init__(
        self,
        image: ClusterImage,
        partitions: Partitions,
        settings: Settings,
        expected: Sequence[int],
    ) -> None:
        self.image = image
        self.partitions = partitions
        self.session_timeout_ms = settings.int("broker.session.timeout.ms")
        self.sessions: dict[int, Session] = {}
        self.expected = tuple(sorted(expected))
        """Brokers that a start waits for."""
        self._dead: dict[int, int] = {}
        """Highest incarnation of each broker that is known to have ended."""
        self._announced: dict[int, ProcessState] = {}
        self._loaded_ms = 0
        self._fenced_ms: dict[int, int] = {}
        self._outages_ms: dict[int, int] = {}
        partitions.awaited = self._is_coming

    # --- start ----------------------------------------------------------------------------

    def give_sessions(self, now_ms: int, end_offset: int) -> None:
        """After loading: everyone that was unfenced has a whole session to speak up, and is
        taken to have been sent all up to `end_offset` (its heartbeats tell if not)."""
        self._loaded_ms = now_ms
        for id, broker in sorted(self.image.brokers.items()):
            self.sessions[id] = Session(
                id,
                broker.incarnation,
                broker.broker_epoch,
                now_ms + self.session_timeout_ms,
                unfence_offset=end_offset if broker.is_fenced else broker.broker_epoch + 1,
                sent=end_offset,
                is_silent=broker.is_fenced,
            )

    def prolong(self, now_ms: int) -> None:
        """This process stood still: that nobody was heard says nothing about them."""
        for session in self.sessions.values():
            session.deadline_ms = now_ms + self.session_timeout_ms

    def all_here(self) -> bool:
        """Everybody that a start waits for is unfenced, or known not to come."""
        return all(
            (self.image.is_alive(id) and (s := self.sessions.get(id)) and s.is_confirmed)
            or self._is_out(id)
            for id in self.expected
        )

    def _is_out(self, id: int) -> bool:
        process = self._announced.get(id)
        return process is not None and process.state not in LIVING

    def _is_coming(self, id: int) -> bool:
        """By the supervisor, or by itself: news of a start may come after its registration."""
        process, session = self._announced.get(id), self.sessions.get(id)
        is_heard = session is not None and not session.is_silent
        return is_heard or (process is not None and process.state in LIVING)

    # --- registration ---------------------------------------------------------------------

    def refusal(self, message: Register) -> str:
        """Why a registration cannot be; empty when it can."""
        if message.broker_id < 1:
            return f"{message.broker_id} is no broker id: they start at 1"
        known = self.image.brokers.get(message.broker_id)
        if known is not None and message.incarnation < known.incarnation:
            return (
                f"broker {message.broker_id} is registered as incarnation {known.incarnation}, "
                f"after {message.incarnation}"
            )
        for broker in self.image.alive():
            is_other = broker.id != message.broker_id
            if is_other and (broker.host, broker.port) == (message.host, message.port):
                return f"broker {broker.id} listens on {message.host}:{message.port}"
        return ""

    def is_dead(self, broker_id: int, incarnation: int) -> bool:
        return incarnation <= self._dead.get(broker_id, -1)

    def register(self, decision: Decision, message: Register) -> None:
        """A new incarnation, or the same one again. The refusals have been looked at."""
        id = message.broker_id
        known = self.image.brokers.get(id)
        session = self.sessions.get(id)
        if known is not None and known.incarnation == message.incarnation:
            # Its first answer was lost, or it was asked for its log ends: the same epoch.
            if session is None or session.incarnation != message.incarnation:
                session = self._open_session(decision, known.broker_epoch, message)
            self._touch(session, decision.now_ms)
            self.partitions.reported(id, message.logs)
            self.partitions.elect(decision)
            return
        if known is not None and not known.is_fenced:
            self.fence(decision, [id], "new incarnation")
        broker_epoch = decision.next_offset
        decision.add(
            r.BrokerRegistered(
                id,
                broker_epoch,
                message.incarnation,
                message.host,
                message.port,
                message.endpoint,
                message.rack,
            )
        )
        decision.trace(BrokerRegistered(id, broker_epoch, message.restart))
        self.partitions.registered(id, message.logs)
        self.partitions.lost_data(decision, id, is_all=message.restart == "lossy")
        self._open_session(decision, broker_epoch, message)

    def _open_session(self, decision: Decision, broker_epoch: int, message: Register) -> Session:
        session = Session(
            message.broker_id,
            message.incarnation,
            broker_epoch,
            decision.now_ms + self.session_timeout_ms,
            unfence_offset=decision.next_offset,
            is_confirmed=True,
        )
        self.sessions[message.broker_id] = session
        return session

    # --- heartbeat ------------------------------------------------------------------------

    def session(self, source: int, source_epoch: int, broker_epoch: int) -> Session | None:
        """The session that a message speaks for, None when that epoch does not hold (any more)."""
        session = self.sessions.get(source)
        if (
            session is None
            or session.incarnation != source_epoch
            or session.broker_epoch != broker_epoch
        ):
            return None
        return session

    def heartbeat(self, decision: Decision, session: Session, message: Heartbeat) -> None:
        self._touch(session, decision.now_ms)
        session.applied = message.metadata_offset
        session.nonce = message.nonce
        broker = self.image.brokers[session.broker_id]
        if message.wants_shutdown:
            self._shut_down(decision, session)
        elif broker.is_fenced and session.applied >= session.unfence_offset:
            decision.add(r.BrokerUnfenced(broker.id, broker.broker_epoch))
            decision.trace(BrokerUnfenced(broker.id, broker.broker_epoch))
            fenced_ms = self._fenced_ms.get(broker.id, self._loaded_ms)
            self._outages_ms[broker.id] = decision.now_ms - fenced_ms
            self.partitions.elect(decision)

    def outage_ms(self, broker_id: int) -> int:
        """How long the broker was away before it came back; what it was before this controller
        began does not count."""
        return self._outages_ms.get(broker_id, 0)

    def _touch(self, session: Session, now_ms: int) -> None:
        session.deadline_ms = now_ms + self.session_timeout_ms
        session.is_confirmed = True
        session.is_silent = False

    def heard_ms(self, session: Session) -> int:
        """When it was last heard of (monotonic)."""
        return session.deadline_ms - self.session_timeout_ms

    def forget(self, broker_id: int) -> None:
        """It is unregistered: whatever it still says, it has to register first, and nobody waits
        for it."""
        self.sessions.pop(broker_id, None)
        self.expected = tuple(id for id in self.expected if id != broker_id)

    def _shut_down(self, decision: Decision, session: Session) -> None:
        """Asked for again with each heartbeat: meanwhile another may have joined an ISR."""
        broker = self.image.brokers[session.broker_id]
        if not broker.is_shutting_down:
            decision.add(r.BrokerShuttingDown(broker.id, broker.broker_epoch))
        self.partitions.move_away(decision, broker.id)
        if decision.records or session.shutdown_offset < 0:
            session.shutdown_offset = decision.next_offset

    def may_shut_down(self, session: Session) -> bool:
        """What could move has moved, and those who lead now know it: the broker may stop
        without a moment in which nobody leads. Also when it has been fenced meanwhile."""
        return session.shutdown_offset >= 0 and all(
            other.applied >= session.shutdown_offset
            for id, other in sorted(self.sessions.items())
            if id != session.broker_id and self.image.is_alive(id)
        )

    def may_newly_shut_down(self) -> list[Session]:
        """Those that wait for it and have not been told: they need not ask again."""
        waiting = [s for _, s in sorted(self.sessions.items()) if s.shutdown_offset >= 0]
        return [s for s in waiting if not s.was_told_to_stop and self.may_shut_down(s)]

    # --- fencing --------------------------------------------------------------------------

    def fence(self, decision: Decision, brokers: Collection[int], cause: str) -> None:
        """All of `brokers` that are not fenced yet, and what follows, in one step."""
        fenced = [broker for broker in self.image.alive() if broker.id in brokers]
        for broker in fenced:
            decision.add(r.BrokerFenced(broker.id, broker.broker_epoch))
            session = self.sessions.get(broker.id)
            silent_ms = decision.now_ms - self.heard_ms(session) if session is not None else -1
            decision.trace(BrokerFenced(broker.id, cause, silent_ms))
            self._fenced_ms[broker.id] = decision.now_ms
            self.partitions.gone(broker.id)
        self.partitions.fenced(decision, [broker.id for broker in fenced], cause)
        for broker in fenced:
            session = self.sessions.get(broker.id)
            if session is not None:
                session.unfence_offset = decision.next_offset

    def expire(self, decision: Decision) -> None:
        """Fence whose session has run out."""
        expired = [
            id
            for id, session in sorted(self.sessions.items())
            if session.deadline_ms <= decision.now_ms and not session.is_silent
        ]
        for id in expired:
            self.sessions[id].is_silent = True
        self.fence(decision, expired, "session expired")

    def next_deadline(self) -> int | None:
        deadlines = [s.deadline_ms for s in self.sessions.values() if not s.is_silent]
        return min(deadlines) if deadlines else None

    def died(self, decision: Decision, broker_id: int, incarnation: int) -> None:
        """Certain news of one incarnation. Another may have registered meanwhile."""
        self._ended(broker_id, incarnation)
        broker = self.image.brokers.get(broker_id)
        if broker is not None and broker.incarnation <= incarnation:
            self.fence(decision, [broker_id], "died")

    def announced(self, decision: Decision, processes: Collection[ProcessState]) -> None:
        """Who lives by the supervisor's knowledge. Who is not in the list keeps its session."""
        self._announced = {process.id: process for process in processes}
        ended = []
        for process in sorted(processes, key=lambda process: process.id):
            is_living = process.state in LIVING
            last_ended = process.incarnation - (1 if is_living else 0)
            broker = self.image.brokers.get(process.id)
            if broker is None:
                continue
            if broker.incarnation <= last_ended:
                self._ended(process.id, last_ended)
                ended.append(process.id)
            elif is_living and broker.incarnation == process.incarnation:
                session = self.sessions.get(process.id)
                if session is not None:
                    session.is_confirmed = True
        self.fence(decision, ended, "died")

    def _ended(self, broker_id: int, incarnation: int) -> None:
        self._dead[broker_id] = max(incarnation, self._dead.get(broker_id, -1))
        session = self.sessions.get(broker_id)
        if session is not None and session.incarnation <= incarnation:
            # Nothing is kept for the dead: their successor registers.
            del self.sessions[broker_id]
