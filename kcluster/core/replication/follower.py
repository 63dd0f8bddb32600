"""The follower's side of replication: one stream for each partition that another broker leads.

            +--------------------- gap, unknown stream, bad bytes ----------------+
            v                                                                     |
    idle -> opening --Push--> streaming --> append --> written --> Ack -----------+
            ^  |  `--Diverge--> truncate (in this turn), open again
            |  `--Refuse------> waiting --(backoff)--+
            `----------------------------------------+

The follower alone decides what is in its log; the leader only learns of it by positions. It
truncates by dialogue, never by its own high watermark (invariant 8, rule 2): to the lower of the
leader's end of an epoch and its own end of that epoch, and asks again until they agree.

An acknowledgement leaves when the bytes are written (and flushed, with flush.messages=1): one
message for each leader and turn. Everything else that may get lost heals by asking again: an
unanswered Open is repeated with a new stream id, and a stream that hears nothing states its
position now and then, which a leader that has closed it refuses.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core.log.producers import Producers
from kcluster.core.replication.leader import FetchWaiter
from kcluster.core.turn import Buffer, Timer, Turn
from kcluster.errors import CorruptLogError
from kcluster.wire.bus import (
    ABANDONED,
    Ack,
    AckEntry,
    DivergeEntry,
    Open,
    OpenEntry,
    PushEntry,
    RefuseEntry,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kcluster.core.replication.replica import Replica

OPEN_RETRY_MS: Final = 500
"""An Open without an answer is repeated after so long."""

SILENCE_MS: Final = 5000
"""A stream on which nothing came for so long states its position unasked."""

ENTRIES_PER_OPEN: Final = 1000
"""Partitions in one Open message."""


class Phase(enum.Enum):
    IDLE = "idle"
    """The partition has no leader."""
    WAITING = "waiting"
    """Refused; opens again at `due_ms`."""
    OPENING = "opening"
    """Asked; asks again at `due_ms`."""
    STREAMING = "streaming"


class LookAtStreams(Timer, msgspec.Struct):
    """Open what has waited or is unanswered, and break the silence of streams."""


class FollowerState:
    """One partition, during one leader epoch."""

    __slots__ = (
        "due_ms",
        "fetches",
        "heard_ms",
        "leader",
        "leader_epoch",
        "leader_high_watermark",
        "leader_log_start",
        "owes_ack",
        "phase",
        "stream",
    )

    def __init__(self, leader: int, leader_epoch: int) -> None:
        self.leader = leader
        """Broker id, or -1 for none."""
        self.leader_epoch = leader_epoch
        self.phase = Phase.IDLE
        self.stream = 0
        """Id of the stream asked for or open; 0 for none."""
        self.due_ms = 0
        self.heard_ms = 0
        self.leader_high_watermark = -1
        """The highest heard on this stream."""
        self.leader_log_start = -1
        self.owes_ack = False
        self.fetches: dict[FetchWaiter, None] = {}
        """Consumers that read here and wait for the high watermark (KIP-392)."""

    def resign(self) -> list[FetchWaiter]:
        """Follow no more: who waited to read is to look again."""
        waiters = list(self.fetches)
        self.fetches.clear()
        return waiters


class Incoming:
    """All streams to this broker."""

    def __init__(
        self,
        backoff_ms: int,
        taken: Callable[[Replica], None],
        failed: Callable[[Replica, Turn, str], None],
        first_stream: int,
    ) -> None:
        """`taken` is told of a replica that was pushed to, which is to be settled; `failed` of
        one whose leader sends bytes that its log refuses. `first_stream`: no incarnation of this
        broker before has numbered a stream so, for its leaders may still speak of those."""
        self._backoff_ms = max(1, backoff_ms)
        self._taken = taken
        self._failed = failed
        self._next_stream = first_stream
        self._replicas: dict[int, Replica] = {}
        """By stream id: asked for or open."""
        self._unsettled: dict[Replica, None] = {}
        """Waiting or opening."""
        self._to_open: dict[Replica, None] = {}
        self._to_ack: dict[Replica, None] = {}
        self._is_armed = False

    # --- opening and closing --------------------------------------------------------------

    def follow(self, replica: Replica) -> None:
        """Open a stream to the leader that the replica's follower state names."""
        state = replica.follower
        assert state is not None and state.leader >= 0
        self._to_open[replica] = None

    def abandon(self, replica: Replica, turn: Turn) -> None:
        """Its log has failed: tell the leader, which else waits for it as for one that is about
        to join, for as long as it once was caught up."""
        state = replica.follower
        if state is not None and state.stream:
            turn.send(state.leader, Ack([AckEntry(state.stream, ABANDONED, -1, -1)]))

    def forget(self, replica: Replica) -> None:
        """Follow it no more."""
        state = replica.follower
        if state is not None:
            self._replicas.pop(state.stream, None)
            state.stream = 0
            state.phase = Phase.IDLE
        self._unsettled.pop(replica, None)
        self._to_open.pop(replica, None)
        self._to_ack.pop(replica, None)

    def _reopen(self, replica: Replica, turn: Turn, delay_ms: int = 0) -> None:
        state = replica.follower
        assert state is not None
        self._replicas.pop(state.stream, None)
        state.stream = 0
        state.owes_ack = False
        self._to_ack.pop(replica, None)
        if delay_ms:
            state.phase = Phase.WAITING
            state.due_ms = turn.now_ms + delay_ms
            self._unsettled[replica] = None
            self._arm(turn)
        else:
            self._to_open[replica] = None

    def leader_died(self, broker_id: int, turn: Turn) -> None:
        """Its streams have ended; who leads next is the controller's to say."""
        for replica in [
            replica
            for replica in self._replicas.values()
            if replica.follower is not None and replica.follower.leader == broker_id
        ]:
            self._reopen(replica, turn, OPEN_RETRY_MS)

    # --- what leaders say -----------------------------------------------------------------

    def pushed(
        self, source: int, entries: Sequence[PushEntry], payload: Sequence[Buffer], turn: Turn
    ) -> None:
        frame_index = position = 0
        frame = memoryview(payload[0]) if payload else memoryview(b"")
        for entry in entries:
            size = entry.size
            data: memoryview | None = None
            if size:
                while position >= len(frame):
                    frame_index += 1
                    if frame_index >= len(payload):
                        return
                    frame, position = memoryview(payload[frame_index]), 0
                data = frame[position : position + size]
                position += size
                if len(data) != size:
                    return
            replica = self._replicas.get(entry.stream)
            # Rule 3: what belongs to another stream is dropped.
            if replica is None or replica.follower is None or replica.follower.leader != source:
                continue
            self._pushed(replica, entry, data, turn)

    def _pushed(
        self, replica: Replica, entry: PushEntry, data: memoryview | None, turn: Turn
    ) -> None:
        state = replica.follower
        assert state is not None
        log = replica.log
        if replica.offline or log.failure:
            # It may have failed in this very turn.
            return
        if entry.base_offset > log.log_end_offset:
            # A push was lost on the way, or came too early (rule 3).
            self._reopen(replica, turn)
            return
        if state.phase is not Phase.STREAMING:
            state.phase = Phase.STREAMING
            self._unsettled.pop(replica, None)
        state.heard_ms = turn.now_ms
        if data is not None and entry.base_offset == log.log_end_offset:
            try:
                replica.begin_before(turn, data)
                log.append_as_follower(turn, data)
                self._taken(replica)
            except CorruptLogError as error:
                # Not in the log, so nothing is lost: asked for again, from the leader's file.
                self._failed(replica, turn, str(error))
                self._reopen(replica, turn, self._backoff_ms)
                return
        # Below the log end it is a copy of what we hold: acknowledged again.
        state.leader_high_watermark = max(state.leader_high_watermark, entry.high_watermark)
        state.leader_log_start = max(state.leader_log_start, entry.log_start_offset)
        state.owes_ack = True
        self._to_ack[replica] = None

    def diverged(self, source: int, entries: Sequence[DivergeEntry], turn: Turn) -> None:
        for entry in entries:
            replica = self._replicas.get(entry.stream)
            if replica is None or replica.follower is None or replica.follower.leader != source:
                continue
            if replica.offline or replica.log.failure:
                continue
            try:
                producers = Producers.decode(entry.producers) if entry.producers else None
            except CorruptLogError:
                self._reopen(replica, turn, self._backoff_ms)
                continue
            try:
                was_cut = replica.truncate_towards(turn, entry.epoch, entry.end_offset, producers)
            except CorruptLogError as error:
                replica.log.fail(str(error), is_damage=True)
                self._taken(replica)
                continue
            # The next Open leaves in `send`, after the disk has truncated.
            self._reopen(replica, turn, 0 if was_cut else self._backoff_ms)

    def refused(self, source: int, entries: Sequence[RefuseEntry], turn: Turn) -> None:
        for entry in entries:
            replica = self._replicas.get(entry.stream)
            if replica is None or replica.follower is None or replica.follower.leader != source:
                continue
            was_streaming = replica.follower.phase is Phase.STREAMING
            # A stream that was open and is no longer known is opened again at once.
            self._reopen(replica, turn, 0 if was_streaming else self._backoff_ms)

    # --- what followers say ---------------------------------------------------------------

    def written(self, replica: Replica) -> None:
        """More of its log is safe than was acknowledged."""
        state = replica.follower
        if state is not None and state.phase is Phase.STREAMING:
            state.owes_ack = True
            self._to_ack[replica] = None

    def send(self, turn: Turn) -> None:
        """Everything that is due after the writes of this turn: one message for each leader."""
        if self._to_ack:
            self._send_acks(turn)
        if self._to_open:
            self._send_opens(turn)

    def _send_acks(self, turn: Turn) -> None:
        acks: dict[int, list[AckEntry]] = {}
        for replica in self._to_ack:
            state = replica.follower
            if state is None or not state.owes_ack or replica.offline or not state.stream:
                continue
            state.owes_ack = False
            position = replica.follow_marks(turn)
            acks.setdefault(state.leader, []).append(
                AckEntry(
                    state.stream, position, state.leader_high_watermark, state.leader_log_start
                )
            )
        self._to_ack.clear()
        for leader, entries in acks.items():
            turn.send(leader, Ack(entries))

    def _send_opens(self, turn: Turn) -> None:
        opens: dict[int, list[OpenEntry]] = {}
        to_open, self._to_open = self._to_open, {}
        for replica in to_open:
            state = replica.follower
            if state is None or state.leader < 0 or replica.offline:
                continue
            if replica.log.cut_sync or not replica.is_safe_to_its_end(turn):
                # A position is a claim: what is not flushed yet (flush.messages=1) is not claimed,
                # and nothing is to come in the place of what may come back.
                self._to_open[replica] = None
                continue
            self._replicas.pop(state.stream, None)
            state.stream = self._next_stream
            self._next_stream += 1
            state.phase = Phase.OPENING
            state.due_ms = turn.now_ms + OPEN_RETRY_MS
            state.heard_ms = turn.now_ms
            state.leader_high_watermark = state.leader_log_start = -1
            self._replicas[state.stream] = replica
            self._unsettled[replica] = None
            log = replica.log
            opens.setdefault(state.leader, []).append(
                OpenEntry(
                    replica.topic_id,
                    replica.tp.partition,
                    state.stream,
                    state.leader_epoch,
                    log.log_end_offset,
                    log.last_epoch,
                    log.log_start_offset,
                )
            )
        for leader, entries in opens.items():
            for first in range(0, len(entries), ENTRIES_PER_OPEN):
                turn.send(leader, Open(entries[first : first + ENTRIES_PER_OPEN]))
        self._arm(turn)

    # --- time -----------------------------------------------------------------------------

    def look(self, turn: Turn) -> None:
        self._is_armed = False
        for replica in list(self._unsettled):
            state = replica.follower
            if state is None or replica.offline:
                del self._unsettled[replica]
            elif turn.now_ms >= state.due_ms:
                self._to_open[replica] = None
        if self._unsettled:
            self._arm(turn)

    def break_silence(self, turn: Turn) -> None:
        for replica in self._replicas.values():
            state = replica.follower
            if (
                state is not None
                and state.phase is Phase.STREAMING
                and turn.now_ms - state.heard_ms >= SILENCE_MS
            ):
                state.heard_ms = turn.now_ms
                state.owes_ack = True
                self._to_ack[replica] = None

    def _arm(self, turn: Turn) -> None:
        if self._unsettled and not self._is_armed:
            self._is_armed = True
            turn.after(min(self._backoff_ms, OPEN_RETRY_MS) // 2 + 1, LookAtStreams())
