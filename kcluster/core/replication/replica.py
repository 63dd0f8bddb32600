"""One partition on one broker: its log and the role that the controller gave it.

              PartitionChanged: leader == me, higher epoch
    idle ------------------------------------------------> leader
      ^  `----> follower <---------------------------------'  |
      |            |            leader != me, higher epoch    |
      `-- offline <+------------------------------------------'
             an I/O error on its log: until the next start (invariant 15)

A role holds for one leader epoch; a new epoch makes a new `LeaderState` or `FollowerState`, so
that nothing of the old one is mistaken for the new (invariant 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core import traces
from kcluster.core.log.partition_log import PartitionLog
from kcluster.core.log.producers import Producers
from kcluster.core.replication.follower import FollowerState, Incoming
from kcluster.core.replication.leader import LeaderState
from kcluster.core.replication.streams import Outgoing
from kcluster.core.turn import Buffer, Turn
from kcluster.errors import ErrorCode
from kcluster.model import NO_EPOCH, NO_LEADER, TopicPartition

if TYPE_CHECKING:
    from kcluster.core.metadata.records import PartitionChanged


BASE_OFFSET_BYTES: Final = 8
"""Of a batch: what it begins with."""


class Replica:
    __slots__ = (
        "follower",
        "is_dirty",
        "leader",
        "leader_epoch",
        "log",
        "me",
        "offline",
        "partition_epoch",
        "state",
        "topic_id",
        "tp",
    )

    def __init__(self, tp: TopicPartition, topic_id: bytes, log: PartitionLog) -> None:
        self.tp = tp
        self.topic_id = topic_id
        self.log = log
        self.state: PartitionChanged | None = None
        """As metadata has it."""
        self.me = -1
        """The broker that it is on, once it has a role."""
        self.leader_epoch = NO_EPOCH
        """Of the role it has."""
        self.leader: LeaderState | None = None
        self.follower: FollowerState | None = None
        """Invariant: at most one of the two roles; none while offline."""
        self.offline = ""
        """Why; empty when it is not."""
        self.is_dirty = False
        """It is to be looked at when this turn settles."""

    def __repr__(self) -> str:
        return f"Replica({self.tp})"

    # --- the log --------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Exclusive end of what this replica holds as safely as its topic asks for: what it
        tells its leader, or counts for itself. Written at least (rule 1), and with
        flush.messages=1 flushed, too (fault contract, C2)."""
        return self.log.acknowledgeable_end

    @property
    def is_in_sync(self) -> bool:
        """As far as metadata tells."""
        return self.state is not None and self.me in self.state.isr

    def is_safe_to_its_end(self, turn: Turn) -> bool:
        """Whether all that the log holds counts; asks for a flush when that is what it takes."""
        if self.position == self.log.log_end_offset:
            return True
        self.log.flush(turn)
        return False

    # --- roles ----------------------------------------------------------------------------

    def apply(
        self, turn: Turn, me: int, state: PartitionChanged, incoming: Incoming, outgoing: Outgoing
    ) -> bool:
        """Take the role that metadata gives; whether there is reason to settle it."""
        self.state = state
        self.me = me
        if self.offline:
            return False
        if state.leader_epoch > self.leader_epoch:
            self.stand_down(turn, incoming, outgoing, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self.leader_epoch = state.leader_epoch
            if state.leader == me:
                self._lead(turn, me, state)
            else:
                self._follow(turn, state, incoming)
            return True
        if state.leader_epoch == self.leader_epoch and self.leader is not None:
            # Only the ISR may have changed, and replicas been added: the high watermark is looked
            # at again, whatever the change was (KAFKA-13091).
            self.leader.reassigned(state.replicas, turn.now_ms)
            return self._isr_changed(turn, state)
        return False

    def _lead(self, turn: Turn, me: int, state: PartitionChanged) -> None:
        log = self.log
        if log.epochs.latest >= state.leader_epoch:
            # Invariant 13: one writer for each epoch, and this log has had one of this epoch. An
            # earlier incarnation of this broker may have told offsets that it lost since.
            turn.trace(traces.Warned(f"{self.tp}: epoch {state.leader_epoch} was led before"))
            return
        # The epoch starts here, also when no record is ever written in it (invariant 8).
        log.assign_epoch(turn, state.leader_epoch, log.log_end_offset)
        self.leader = LeaderState(
            me,
            state,
            log.log_end_offset,
            self.position,
            log.high_watermark,
            log.config.min_insync_replicas,
            turn.now_ms,
        )
        turn.trace(
            traces.BecameLeader(
                self.tp.topic,
                self.tp.partition,
                state.leader_epoch,
                log.log_end_offset,
                log.high_watermark,
            )
        )

    def _follow(self, turn: Turn, state: PartitionChanged, incoming: Incoming) -> None:
        self.follower = FollowerState(state.leader, state.leader_epoch)
        if state.leader != NO_LEADER:
            incoming.follow(self)
        turn.trace(
            traces.BecameFollower(
                self.tp.topic, self.tp.partition, state.leader_epoch, state.leader
            )
        )

    def _isr_changed(self, turn: Turn, state: PartitionChanged) -> bool:
        leader = self.leader
        assert leader is not None
        before = leader.isr
        if not leader.committed(tuple(state.isr), state.partition_epoch):
            return False
        self.trace_isr(turn, before)
        return True

    def trace_isr(self, turn: Turn, before: tuple[int, ...]) -> None:
        """Tell how the committed ISR differs from what it was."""
        leader = self.leader
        assert leader is not None
        topic, partition, old, isr = *self.tp, list(before), list(leader.isr)
        if set(isr) - set(old):
            turn.trace(traces.IsrExpanded(topic, partition, old, isr))
        elif set(old) - set(isr):
            turn.trace(traces.IsrShrunk(topic, partition, old, isr, "granted by the controller"))

    def stand_down(
        self, turn: Turn, incoming: Incoming, outgoing: Outgoing, error: ErrorCode
    ) -> None:
        """Have no role: whoever waits for this one is told `error`."""
        if self.follower is not None:
            incoming.forget(self)
            follower, self.follower = self.follower, None
            for waiter in follower.resign():
                waiter.wake()
        leader = self.leader
        if leader is not None:
            self.leader = None
            outgoing.close_all(leader)
            leader.writes.fail(turn, error)
            leader.produces.fail(turn, error)
            leader.deletions.fail(turn, error)
            for waiter in leader.resign():
                waiter.wake()

    def go_offline(self, turn: Turn, incoming: Incoming, outgoing: Outgoing, cause: str) -> None:
        """Its disk failed: nothing is appended, served or claimed any more (invariant 15)."""
        if self.offline:
            return
        self.offline = cause
        incoming.abandon(self, turn)
        self.stand_down(turn, incoming, outgoing, ErrorCode.KAFKA_STORAGE_ERROR)
        turn.trace(traces.LogOffline(self.tp.topic, self.tp.partition, cause))

    # --- as a leader ----------------------------------------------------------------------

    def lacks_beginning(self, log_start_offset: int) -> bool:
        """Asked of the leader: whether records that are kept here are missing in front of a
        follower's log, which begins at `log_start_offset`. A power cut may take the first segment
        and leave the second, and so far nothing can tell that from retention."""
        return self.log.log_start_offset < log_start_offset

    def counts_on(self, follower: int) -> bool:
        """Asked of the leader: whether it has promised to hold what its log holds."""
        assert self.leader is not None and self.state is not None
        return follower in self.leader.isr or follower in self.state.elr

    # --- as a follower --------------------------------------------------------------------

    def truncate_towards(
        self, turn: Turn, epoch: int, end_offset: int, producers: Producers | None = None
    ) -> bool:
        """One step of the dialogue: the leader's largest epoch not above ours ends at
        `end_offset` there; -1: nothing in common, start at `end_offset` (rules 2 and 4) with
        `producers`, or a batch that is sent again would be taken for a new one (invariant 14).
        Whether anything was cut; if not, the leader and this log contradict each other."""
        log = self.log
        before = log.log_end_offset
        if epoch < 0:
            log.truncate_fully(turn, end_offset, producers)
        else:
            own_epoch, own_end = log.end_offset_for_epoch(epoch)
            if own_epoch < 0:
                own_end = log.log_start_offset
            target = max(min(end_offset, own_end), log.log_start_offset)
            if target >= before:
                return False
            log.truncate_to(turn, target)
        if log.log_end_offset < log.high_watermark:
            # Only an unclean election may ask for this; the leader's log is what counts.
            turn.trace(
                traces.Warned(f"{self.tp}: truncated below the high watermark {log.high_watermark}")
            )
        turn.trace(traces.Truncated(self.tp.topic, self.tp.partition, before, log.log_end_offset))
        # Invariant 5: a follower's own may fall; and it is never below the log start (KAFKA-9491).
        bounded = min(max(log.high_watermark, log.log_start_offset), log.log_end_offset)
        log.set_high_watermark(bounded)
        return True

    def begin_before(self, turn: Turn, pushed: Buffer) -> None:
        """An empty log begins with the batch that its leader's log start lies in: DeleteRecords
        goes by records, and batches are pushed whole (KIP-107)."""
        log = self.log
        if log.log_end_offset == log.log_start_offset:
            base_offset = int.from_bytes(pushed[:BASE_OFFSET_BYTES], "big")
            if base_offset < log.log_end_offset:
                log.truncate_fully(turn, base_offset, log.producers.below(base_offset))
                log.set_high_watermark(base_offset)

    def follow_marks(self, turn: Turn) -> int:
        """Take over the leader's high watermark and log start as far as this log reaches; the
        position to acknowledge."""
        state, log = self.follower, self.log
        assert state is not None
        position = self.position
        high_watermark = min(state.leader_high_watermark, position)
        if high_watermark > log.high_watermark:
            log.set_high_watermark(high_watermark)
            for waiter in state.fetches:
                waiter.wake()
        log_start = min(state.leader_log_start, log.high_watermark)
        if log_start > log.log_start_offset:
            log.advance_log_start(turn, log_start)
        return position
