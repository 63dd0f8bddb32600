"""What a leader knows of one partition during one leader epoch, and what follows from it.

    committed ISR       what the controller granted
    proposed ISR        what it was asked for and has not answered
    maximal ISR         both together: who the high watermark waits for (KIP-497)

    positions --> high watermark --> requests that wait
              `-> ISR: shrink by clock, expand by position --> AlterPartition

The rules, by their numbers among the invariants:

 4  A proposed shrink leaves the maximal ISR only once it is granted, a proposed expansion joins
    it at once: so it always contains what the controller may believe in.
 5  The high watermark never falls in an epoch. A new leader that has not committed its epoch's
    start does not know the true one (`is_high_watermark_known`).
 6  It stands still while the committed ISR is smaller than min(min.insync.replicas, RF).
 9  The ISR changes only by the controller's word, compare-and-set; a refusal is rolled back. An
    unclear outcome is kept as proposed until metadata tells (KAFKA-13916, 14144).
10  What is proposed names the broker epochs of the very incarnations whose positions were
    looked at, also when it is sent again.

Kafka's `Partition` and `PartitionState`; KIP-497, KIP-841, KIP-903, KIP-966.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from kcluster.core.purgatory import OffsetQueue
from kcluster.core.replication.progress import NEVER, Progress
from kcluster.core.turn import Buffer
from kcluster.errors import ErrorCode
from kcluster.wire.bus import IsrChange, IsrOutcome

if TYPE_CHECKING:
    from kcluster.core.metadata.records import PartitionChanged

JOINED_BYTES: Final = 256 << 10
"""Up to this size it costs less to copy a payload than to hold it; measured: zero-copy pays
from there on."""

RETRY_MS: Final = 1000
"""An AlterPartition without an answer is sent again after so long."""

UNCLEAR_RETRY_MS: Final = 5000
"""After an answer that leaves the outcome to metadata, it is sent again this late."""

REFUSED_PAUSE_MS: Final = 500
"""After a refusal no other change is proposed for so long: what refused it needs time to end."""


class Membership(Protocol):
    """What the leader asks about brokers, all from one image."""

    def epoch_of(self, broker_id: int, incarnation: int) -> int:
        """The broker epoch under which this incarnation is an unfenced member that stays; -1
        when it is fenced, shutting down, or another incarnation is registered (KIP-841, 903)."""
        ...

    def registered_epoch(self, broker_id: int) -> int:
        """Of whichever incarnation is registered; -1 for none."""
        ...


class FetchWaiter(Protocol):
    def wake(self) -> None:
        """What may be read of a partition it waits for has changed."""
        ...


class Proposal(msgspec.Struct):
    """An ISR asked for, and not decided."""

    isr: tuple[int, ...]
    broker_epochs: tuple[int, ...]
    cause: str
    due_ms: int = NEVER
    """When it is sent, or sent again."""


class LeaderState:
    def __init__(
        self,
        me: int,
        state: PartitionChanged,
        epoch_start_offset: int,
        position: int,
        high_watermark: int,
        min_insync_replicas: int,
        now_ms: int,
    ) -> None:
        self.me = me
        self.topic_id = state.topic_id
        self.partition = state.partition
        self.leader_epoch = state.leader_epoch
        self.partition_epoch = state.partition_epoch
        self.replicas = tuple(state.replicas)
        self.isr = tuple(state.isr)
        self.proposal: Proposal | None = None
        self.min_insync_replicas = min_insync_replicas
        self.epoch_start_offset = epoch_start_offset
        self.position = position
        """Exclusive end of what this leader itself holds safely: see `Replica.position`."""
        self.high_watermark = high_watermark
        self.followers = {
            id: Progress(id, now_ms, is_in_sync=id in self.isr) for id in self.replicas if id != me
        }
        self.tail: list[tuple[int, Buffer]] = []
        """Batches staged in this turn, as (exclusive end, bytes), for followers at the tail."""
        self.tail_base = -1
        self._is_tail_joined = False
        self.produces = OffsetQueue()
        """acks=all: they wait for the high watermark."""
        self.writes = OffsetQueue()
        """acks=1: they wait for this leader's own position."""
        self.deletions = OffsetQueue()
        """DeleteRecords: they wait for the low watermark."""
        self.fetches: dict[FetchWaiter, None] = {}
        self.pause_until_ms = 0
        self._maximal = frozenset(self.isr)

    # --- what the others may know ---------------------------------------------------------

    @property
    def maximal_isr(self) -> frozenset[int]:
        return self._maximal

    @property
    def effective_min_isr(self) -> int:
        return min(self.min_insync_replicas, len(self.replicas))

    @property
    def has_enough_replicas(self) -> bool:
        """Of the *committed* ISR (KAFKA-15583)."""
        return len(self.isr) >= self.effective_min_isr

    @property
    def is_high_watermark_known(self) -> bool:
        """False while a new leader may be behind the true high watermark (invariant 5)."""
        return self.high_watermark >= self.epoch_start_offset

    # --- this turn's batches --------------------------------------------------------------

    def staged(self, base_offset: int, end_offset: int, batch: Buffer) -> None:
        """The log has taken `batch`; it is not written yet."""
        if not self.tail:
            self.tail_base = base_offset
        self.tail.append((end_offset, batch))

    def written_tail(self) -> list[tuple[int, Buffer]]:
        """The batches of this turn once all of them count (rule 1), small ones joined."""
        tail = self.tail
        if not tail or tail[-1][0] > self.position:
            return []
        if len(tail) > 1 and not self._is_tail_joined:
            tail = self.tail = _join_small(tail)
            self._is_tail_joined = True
        return tail

    def forget_tail(self) -> None:
        """At the end of a turn, with which its buffers end."""
        self.tail.clear()
        self.tail_base = -1
        self._is_tail_joined = False

    # --- positions and the high watermark -------------------------------------------------

    def moved(self, position: int, now_ms: int) -> None:
        """The leader's own position has risen."""
        before = self.position
        if position == before:
            return
        for follower in self.followers.values():
            if follower.log_end == before:
                follower.appended_to_full(now_ms)
        self.position = position

    def advance(self, now_ms: int, lag_max_ms: int, members: Membership) -> bool:
        """Move the high watermark to where it may be; whether it moved."""
        if not self.has_enough_replicas:
            # Invariant 6.
            return False
        high_watermark = self.position
        maximal = self._maximal
        for id, follower in self.followers.items():
            if follower.log_end < high_watermark and (
                id in maximal
                # One that has caught up and may soon join is waited for, or else it never could
                # catch up under constant load.
                or (
                    follower.stream is not None
                    and follower.is_caught_up(self.position, now_ms, lag_max_ms)
                    and members.epoch_of(id, follower.incarnation) >= 0
                )
            ):
                high_watermark = follower.log_end
        if high_watermark <= self.high_watermark:
            # Invariant 5: it never falls within an epoch.
            return False
        self.high_watermark = high_watermark
        return True

    def low_watermark(self, log_start_offset: int, is_alive: Callable[[int], bool]) -> int:
        """The lowest log start of this leader and the followers that live: below it no record
        comes back with another leader (KIP-107). -1 until all have told theirs."""
        lowest = log_start_offset
        for id, follower in self.followers.items():
            if is_alive(id):
                stream = follower.stream
                lowest = min(lowest, stream.log_start_offset if stream is not None else -1)
        return lowest

    # --- the ISR --------------------------------------------------------------------------

    def may_join(self, follower: Progress) -> bool:
        """Holds all that is committed and this epoch's start, and has fetched in this epoch."""
        return (
            follower.stream is not None
            and follower.log_end >= self.high_watermark
            and follower.log_end >= self.epoch_start_offset
        )

    def lagging(self, now_ms: int, lag_max_ms: int) -> list[int]:
        """Members of the ISR that were not caught up for `lag_max_ms`."""
        return [
            id
            for id in self.isr
            if id != self.me
            and not self.followers[id].is_caught_up(self.position, now_ms, lag_max_ms)
        ]

    def propose_expansion(self, follower: Progress, now_ms: int, members: Membership) -> bool:
        if self.proposal is not None or now_ms < self.pause_until_ms:
            return False
        epoch = members.epoch_of(follower.broker_id, follower.incarnation)
        if epoch < 0:
            # Invariant 10: its position must be that of the incarnation that is a member.
            return False
        isr = (*self.isr, follower.broker_id)
        return self._propose(isr, {follower.broker_id: epoch}, "caught up", members)

    def propose_shrink(self, gone: Iterable[int], now_ms: int, members: Membership) -> bool:
        if self.proposal is not None or now_ms < self.pause_until_ms:
            return False
        isr = tuple(id for id in self.isr if id not in gone)
        return self._propose(isr, {}, "lags behind", members)

    def _propose(
        self, isr: tuple[int, ...], known: dict[int, int], cause: str, members: Membership
    ) -> bool:
        epochs = tuple(known.get(id, members.registered_epoch(id)) for id in isr)
        self.proposal = Proposal(isr, epochs, cause)
        self._maximal = frozenset((*self.isr, *isr))
        return True

    def change_to_send(self, now_ms: int) -> IsrChange | None:
        """The proposal, when it is new or an answer is overdue."""
        proposal = self.proposal
        if proposal is None or now_ms < proposal.due_ms:
            return None
        proposal.due_ms = now_ms + RETRY_MS
        return IsrChange(
            self.topic_id,
            self.partition,
            self.leader_epoch,
            self.partition_epoch,
            list(proposal.isr),
            list(proposal.broker_epochs),
            self.min_insync_replicas,
        )

    def decided(self, proposal: Proposal, outcome: IsrOutcome, now_ms: int) -> bool:
        """The controller's answer to `proposal`; whether the committed ISR has changed."""
        if outcome.error == ErrorCode.NONE:
            if outcome.leader_epoch != self.leader_epoch:
                return False
            return self.committed(tuple(outcome.isr), outcome.partition_epoch)
        if self.proposal is not proposal:
            # About one that metadata has decided since.
            return False
        match outcome.error:
            case ErrorCode.INELIGIBLE_REPLICA | ErrorCode.OPERATION_NOT_ATTEMPTED:
                # Certainly not done: back to what is committed.
                self._roll_back()
                self.pause_until_ms = now_ms + REFUSED_PAUSE_MS
            case (
                ErrorCode.INVALID_UPDATE_VERSION
                | ErrorCode.FENCED_LEADER_EPOCH
                | ErrorCode.NEW_LEADER_ELECTED
                | ErrorCode.UNKNOWN_TOPIC_ID
                | ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode.INVALID_REQUEST
                | ErrorCode.NOT_CONTROLLER
            ):
                # The controller knows something newer, which an earlier copy of this proposal may
                # have made: it counts as proposed until metadata tells (invariant 4).
                proposal.due_ms = now_ms + UNCLEAR_RETRY_MS
            case _:
                # Sent again when an answer is overdue.
                pass
        return False

    def committed(self, isr: tuple[int, ...], partition_epoch: int) -> bool:
        """The controller granted or made a change, by answer or by metadata, whichever first."""
        if partition_epoch <= self.partition_epoch:
            return False
        self.isr = isr
        self.partition_epoch = partition_epoch
        self._roll_back()
        self.pause_until_ms = 0
        return True

    def reassigned(self, replicas: Iterable[int], now_ms: int) -> None:
        """Others have been added. One that is taken away makes a new leader epoch."""
        self.replicas = tuple(replicas)
        for id in self.replicas:
            if id != self.me and id not in self.followers:
                self.followers[id] = Progress(id, now_ms, is_in_sync=False)
        assert len(self.followers) == len(self.replicas) - 1, "a replica went without an epoch"

    def _roll_back(self) -> None:
        self.proposal = None
        self._maximal = frozenset(self.isr)

    def resign(self) -> list[FetchWaiter]:
        """Lead no more: who waited to read is to look again."""
        waiters = list(self.fetches)
        self.fetches.clear()
        self.forget_tail()
        return waiters


def _join_small(tail: list[tuple[int, Buffer]]) -> list[tuple[int, Buffer]]:
    """The same bytes in fewer buffers: what is copied anyway becomes one entry of a push."""
    joined: list[tuple[int, Buffer]] = []
    group: list[Buffer] = []
    size = group_end = 0
    for end, buffer in tail:
        if group and size + len(buffer) > JOINED_BYTES:
            joined.append((group_end, b"".join(group) if len(group) > 1 else group[0]))
            group, size = [], 0
        group.append(buffer)
        size += len(buffer)
        group_end = end
    joined.append((group_end, b"".join(group) if len(group) > 1 else group[0]))
    return joined
