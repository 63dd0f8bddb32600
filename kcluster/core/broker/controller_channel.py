"""What this broker and the controller say to each other about its membership.

    unregistered --Register (repeated)--> Registered: image, fenced
         ^                                     |  heartbeats
         |                                     v
         +--- unknown epoch ------------ fenced, unfenced, shutting down

Losing the coordinator stops nothing here: heartbeats go on unanswered, safety comes from epochs
and the ISR. Only a broker that itself stood still longer than its session asks first and serves
afterwards (invariant 19): `awaits_word` is then true until an answer to a question asked since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core import traces
from kcluster.core.turn import Timer, Turn
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR
from kcluster.wire.bus import (
    AlterPartition,
    Heartbeat,
    HeartbeatReply,
    IsrChange,
    LogDirFailed,
    LogEnd,
    PartitionAltered,
    Register,
)

if TYPE_CHECKING:
    from kcluster.core.replication.leader import LeaderState, Proposal
    from kcluster.core.replication.replica import Replica

REGISTER_RETRY_MS: Final = 200

CHANGES_PER_REQUEST: Final = 1000
"""Partitions in one AlterPartition."""

REQUESTS_KEPT: Final = 100
"""AlterPartitions whose answers are still listened to."""


class HeartbeatDue(Timer, msgspec.Struct):
    pass


class RegisterDue(Timer, msgspec.Struct):
    pass


def first_number(incarnation: int) -> int:
    """Of what a broker asks the controller, and of the streams that it asks leaders for. An answer
    may wait there, and leaves to whoever has the broker's address by then: no two incarnations
    share numbers."""
    return incarnation << 32


class ControllerChannel:
    def __init__(
        self,
        identity: Register,
        heartbeat_ms: int,
        log_ends: Callable[[], list[LogEnd]],
    ) -> None:
        """`identity` is what is registered, but for the log ends, which are asked for anew."""
        self._identity = identity
        self.restart = identity.restart
        self._heartbeat_ms = heartbeat_ms
        self._log_ends = log_ends
        self.broker_epoch = -1
        """-1: not registered."""
        self.is_fenced = True
        """As the last answer had it."""
        self.wants_shutdown = False
        self.may_shut_down = False
        self.awaits_word = False
        self._nonce = 0
        self._asked_nonce = 0
        self._proposals: dict[int, list[tuple[Replica, LeaderState, Proposal]]] = {}
        self._request = first_number(identity.incarnation)
        self._is_registering = False
        self._failed: set[tuple[bytes, int]] = set()
        """Offline partitions that the controller has not moved away yet."""

    # --- registration ---------------------------------------------------------------------

    def begin(self, turn: Turn) -> None:
        self.register(turn)
        turn.after(self._heartbeat_ms, HeartbeatDue())

    def register(self, turn: Turn) -> None:
        """Ask to be a member; repeated until answered."""
        self.broker_epoch = -1
        identity = msgspec.structs.replace(
            self._identity, restart=self.restart, logs=self._log_ends()
        )
        turn.send(COORDINATOR, identity)
        if not self._is_registering:
            self._is_registering = True
            turn.after(REGISTER_RETRY_MS, RegisterDue())

    def register_due(self, turn: Turn) -> None:
        self._is_registering = False
        if self.broker_epoch < 0:
            self.register(turn)

    def registered(self, broker_epoch: int) -> None:
        self.broker_epoch = broker_epoch

    # --- heartbeats -----------------------------------------------------------------------

    def heartbeat_due(self, turn: Turn, metadata_offset: int) -> None:
        turn.after(self._heartbeat_ms, HeartbeatDue())
        self.heartbeat(turn, metadata_offset)

    def heartbeat(self, turn: Turn, metadata_offset: int) -> None:
        if self.broker_epoch < 0:
            return
        self._nonce += 1
        turn.send(
            COORDINATOR,
            Heartbeat(self.broker_epoch, metadata_offset, self._nonce, self.wants_shutdown),
        )

    def stood_still(self, turn: Turn, metadata_offset: int) -> None:
        """Invariant 19: trust only what is asked from now on."""
        self.awaits_word = True
        self._asked_nonce = self._nonce + 1
        self.heartbeat(turn, metadata_offset)

    def heartbeat_answered(self, reply: HeartbeatReply, turn: Turn) -> None:
        if reply.broker_epoch != self.broker_epoch:
            # About an epoch that is not ours any more.
            return
        if reply.unknown_epoch:
            self.register(turn)
            return
        self.is_fenced = reply.is_fenced
        if self.wants_shutdown and reply.may_shut_down:
            self.may_shut_down = True
        if self.awaits_word and reply.nonce >= self._asked_nonce and not reply.is_fenced:
            self.awaits_word = False

    # --- ISR changes ----------------------------------------------------------------------

    def propose(self, turn: Turn, replicas: list[Replica]) -> None:
        """Send the proposals of these that are new or whose answer is overdue."""
        if self.broker_epoch < 0:
            return
        changes: list[IsrChange] = []
        asked: list[tuple[Replica, LeaderState, Proposal]] = []
        for replica in replicas:
            leader = replica.leader
            if leader is None or leader.proposal is None:
                continue
            change = leader.change_to_send(turn.now_ms)
            if change is not None:
                changes.append(change)
                asked.append((replica, leader, leader.proposal))
        for first in range(0, len(changes), CHANGES_PER_REQUEST):
            last = first + CHANGES_PER_REQUEST
            self._request += 1
            self._proposals[self._request] = asked[first:last]
            turn.send(
                COORDINATOR, AlterPartition(self.broker_epoch, self._request, changes[first:last])
            )
        while len(self._proposals) > REQUESTS_KEPT:
            # Asked again since: an answer this late changes nothing that metadata will not tell.
            del self._proposals[next(iter(self._proposals))]

    def altered(self, message: PartitionAltered, turn: Turn) -> list[Replica]:
        """The controller's decision; the replicas whose committed ISR has changed."""
        asked = self._proposals.pop(message.request, [])
        if message.error:
            # Sent again when an answer is overdue, by then perhaps under a new broker epoch.
            return []
        outcomes = {(outcome.topic_id, outcome.partition): outcome for outcome in message.outcomes}
        changed: list[Replica] = []
        for replica, leader, proposal in asked:
            outcome = outcomes.get((leader.topic_id, leader.partition))
            if outcome is None or replica.leader is not leader:
                continue
            before = leader.isr
            if leader.decided(proposal, outcome, turn.now_ms):
                replica.trace_isr(turn, before)
                changed.append(replica)
            elif outcome.error:
                name = _error_name(outcome.error)
                turn.trace(traces.IsrRefused(replica.tp.topic, replica.tp.partition, name))
        return changed

    # --- offline partitions ---------------------------------------------------------------

    def log_failed(self, topic_id: bytes, partition: int) -> None:
        self._failed.add((topic_id, partition))

    def report_failures(self, turn: Turn, still_ours: Callable[[bytes, int], bool]) -> None:
        """Repeated until metadata shows that they were moved away (`still_ours` is False)."""
        self._failed = {key for key in self._failed if still_ours(*key)}
        if self._failed and self.broker_epoch >= 0:
            turn.send(COORDINATOR, LogDirFailed(self.broker_epoch, sorted(self._failed)))


def _error_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
