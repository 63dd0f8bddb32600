"""The leader's side of replication: one outgoing queue of pushes for each follower broker.

    Outgoing
      peers       broker id -> Peer      credit in bytes, streams by id
                  Peer.behind            streams with data to push, served in turn

Once a turn, after its writes, each peer with something to hear gets *one* `Push`: batches of
this turn straight from memory when the stream stands at the tail, else from the file, as far as
credit goes. Only what the leader's own write has completed is pushed (rule 1): `LeaderState.tail`
and the position both move in `settle` only. What was pushed and not acknowledged is at most
`LIMITS.follower_credit_bytes` a broker, which bounds what a slow follower pins.

A replica that is not in sync may be held back further, by `throttle.py`.

High watermark and log start travel with the data; alone they follow after `MARKS_DELAY_MS`
(rule 4), because few read from followers and under load the next data takes them along.

Nothing is ever sent twice by a timer: a lost push shows as a gap to the follower, which opens
the stream anew; when it was the last one, a probe (a push without data at the end of what was
pushed) makes the gap visible; when the acknowledgement was lost, the probe is acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core.replication.leader import JOINED_BYTES, LeaderState
from kcluster.core.replication.progress import Progress
from kcluster.core.replication.throttle import Throttles
from kcluster.core.turn import Buffer, Timer, Turn
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.wire.bus import (
    ABANDONED,
    AckEntry,
    Diverge,
    DivergeEntry,
    OpenEntry,
    Push,
    PushEntry,
    Refuse,
    RefuseEntry,
)
from kcluster.wire.record_walk import start_empty_at, starts_empty_before

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog
    from kcluster.core.replication.replica import Replica

MARKS_DELAY_MS: Final = 10
PROBE_MS: Final = 500
"""A stream whose last push is unacknowledged for so long is asked where it stands."""


class PushMarks(Timer, msgspec.Struct):
    """Send high watermarks and log starts that no data has taken along."""


class ThrottleDue(Timer, msgspec.Struct):
    """There may be room for what was held back."""


class Stream:
    """An open stream: the leader's pushes of one partition to one follower."""

    __slots__ = (
        "acked_high_watermark",
        "acked_log_start",
        "id",
        "in_flight",
        "is_behind",
        "leader",
        "owes_answer",
        "peer",
        "progress",
        "pushed_end",
        "pushed_ms",
        "replica",
        "sent_high_watermark",
        "sent_log_start",
    )

    def __init__(
        self, id: int, peer: Peer, replica: Replica, leader: LeaderState, progress: Progress
    ) -> None:
        self.id = id
        self.peer = peer
        self.replica = replica
        self.leader = leader
        self.progress = progress
        self.pushed_end = progress.log_end
        """Exclusive end of what was pushed. Invariant: progress.log_end <= pushed_end <= the
        leader's position."""
        self.pushed_ms = 0
        self.in_flight: deque[tuple[int, int]] = deque()
        """(exclusive end, bytes) of pushes that are not acknowledged, oldest first."""
        self.sent_high_watermark = -1
        self.sent_log_start = -1
        self.acked_high_watermark = -1
        self.acked_log_start = -1
        self.owes_answer = True
        """Its Open was accepted and is not answered yet."""
        self.is_behind = False
        """It waits in `peer.behind`."""

    @property
    def has_news(self) -> bool:
        """Marks moved since they were last sent."""
        return (
            self.sent_high_watermark != self.leader.high_watermark
            or self.sent_log_start != self.replica.log.log_start_offset
        )

    @property
    def log_start_offset(self) -> int:
        """What the follower's log start is at least: it takes over what it heard as far as its
        high watermark allows, which in turn ends with its log (`Replica.follow_marks`)."""
        return min(self.acked_log_start, self.acked_high_watermark, self.progress.log_end)

    @property
    def is_confirmed(self) -> bool:
        """The follower has acknowledged all that it was sent."""
        return (
            not self.in_flight
            and self.acked_high_watermark == self.sent_high_watermark
            and self.acked_log_start == self.sent_log_start
        )


class Peer:
    """A follower broker: one incarnation of it."""

    __slots__ = ("behind", "broker_id", "incarnation", "streams", "unacknowledged_bytes")

    def __init__(self, broker_id: int, incarnation: int) -> None:
        self.broker_id = broker_id
        self.incarnation = incarnation
        self.streams: dict[int, Stream] = {}
        self.behind: deque[Stream] = deque()
        """Streams with something to push; each stands there at most once."""
        self.unacknowledged_bytes = 0
        """Invariant: the sum over all in_flight of its streams."""


class Outgoing:
    """All streams from this broker."""

    def __init__(
        self, max_read_bytes: int, damaged: Callable[[Replica, CorruptLogError], object]
    ) -> None:
        """`max_read_bytes`: of one partition in one push, when read from the file. `damaged` is
        told of a replica whose file is not what was written."""
        self._damaged = damaged
        self._max_read_bytes = max(1, max_read_bytes)
        self.throttles = Throttles()
        self._is_throttle_armed = False
        self.peers: dict[int, Peer] = {}
        self._news: dict[Stream, None] = {}
        self._is_armed = False

    # --- opening and closing --------------------------------------------------------------

    def open(self, source: int, incarnation: int, entry: OpenEntry, replica: Replica, turn: Turn
             ) -> None:  # fmt: skip
        """A follower states its position: agree where the logs differ, or begin to push.

        The leader epoch of the entry is this leader's, and the source one of its followers.
        """
        known = self.peers.get(source)
        if known is not None and incarnation < known.incarnation:
            # From the dead, delivered late.
            return
        leader = replica.leader
        assert leader is not None and entry.leader_epoch == leader.leader_epoch
        progress = leader.followers[source]
        if (incarnation, entry.stream) <= progress.newest_stream:
            # Late, or twice: ids rise within an incarnation (rule 3).
            return
        progress.newest_stream = (incarnation, entry.stream)
        if progress.stream is not None:
            self.close(progress.stream)
        peer = self._peer(source, incarnation)
        diverges = self._divergence(replica, entry)
        if replica.lacks_beginning(entry.log_start_offset) and not replica.counts_on(source):
            # It starts afresh, before its position counts for anything.
            diverges = _afresh(entry.stream, replica.log)
        if diverges is not None:
            turn.send(source, Diverge([diverges]))
            return
        progress.opened(incarnation, entry.log_end_offset, leader.position, turn.now_ms)
        stream = Stream(entry.stream, peer, replica, leader, progress)
        progress.stream = stream
        peer.streams[entry.stream] = stream
        self._put_behind(stream)

    def _divergence(self, replica: Replica, entry: OpenEntry) -> DivergeEntry | None:
        """Where the follower has to cut first, or None when its log is a prefix of ours."""
        log = replica.log
        log_end = entry.log_end_offset
        if log_end < log.log_start_offset:
            # Rule 4: what it lacks is gone, so it starts where we do.
            return _afresh(entry.stream, log)
        if entry.last_epoch < 0:
            # An empty log can only disagree by lying beyond our end.
            if log_end > log.log_end_offset:
                return _afresh(entry.stream, log)
            return None
        # Rule 2 (KIP-279): the largest epoch not above the follower's last, and its end here.
        epoch, end_offset = log.end_offset_for_epoch(entry.last_epoch)
        if epoch < 0:
            return _afresh(entry.stream, log)
        if epoch < entry.last_epoch or end_offset < log_end:
            return DivergeEntry(entry.stream, epoch, end_offset)
        return None

    def _peer(self, broker_id: int, incarnation: int) -> Peer:
        peer = self.peers.get(broker_id)
        if peer is not None and peer.incarnation < incarnation:
            self.drop_peer(broker_id)
            peer = None
        if peer is None:
            peer = self.peers[broker_id] = Peer(broker_id, incarnation)
        return peer

    def close(self, stream: Stream) -> None:
        """Push no more on it, and give back its credit. What the follower acknowledged stays."""
        peer = stream.peer
        if peer.streams.get(stream.id) is stream:
            del peer.streams[stream.id]
        peer.unacknowledged_bytes -= sum(size for _, size in stream.in_flight)
        stream.in_flight.clear()
        if stream.is_behind:
            peer.behind.remove(stream)
            stream.is_behind = False
        self._news.pop(stream, None)
        if stream.progress.stream is stream:
            stream.progress.stream = None

    def close_all(self, leader: LeaderState) -> None:
        """Of one partition."""
        for progress in leader.followers.values():
            if progress.stream is not None:
                self.close(progress.stream)

    def drop_peer(self, broker_id: int) -> None:
        """This incarnation of a follower is gone."""
        peer = self.peers.pop(broker_id, None)
        if peer is not None:
            for stream in list(peer.streams.values()):
                self.close(stream)

    # --- acknowledgements -----------------------------------------------------------------

    def acknowledged(
        self, source: int, incarnation: int, entries: Iterable[AckEntry], turn: Turn
    ) -> list[Replica]:
        """Positions of a follower; the replicas for which they are news."""
        peer = self.peers.get(source)
        moved: list[Replica] = []
        unknown: list[RefuseEntry] = []
        for entry in entries:
            stream = peer.streams.get(entry.stream) if peer is not None else None
            if stream is None or stream.peer.incarnation != incarnation:
                # Rule 3. Told, because a follower may believe in a stream that we have closed.
                unknown.append(RefuseEntry(entry.stream, ErrorCode.NOT_LEADER_OR_FOLLOWER))
                continue
            if entry.log_end_offset == ABANDONED:
                self.close(stream)
                moved.append(stream.replica)
                continue
            if entry.log_end_offset > stream.pushed_end:
                self.close(stream)
                unknown.append(RefuseEntry(entry.stream, ErrorCode.OFFSET_OUT_OF_RANGE))
                continue
            stream.acked_high_watermark = max(stream.acked_high_watermark, entry.high_watermark)
            stream.acked_log_start = max(stream.acked_log_start, entry.log_start_offset)
            progress = stream.progress
            if entry.log_end_offset < progress.log_end:
                # Late, or twice: positions within one stream only rise.
                continue
            progress.moved(entry.log_end_offset, stream.leader.position, turn.now_ms)
            in_flight = stream.in_flight
            while in_flight and in_flight[0][0] <= entry.log_end_offset:
                stream.peer.unacknowledged_bytes -= in_flight.popleft()[1]
            moved.append(stream.replica)
        if unknown:
            turn.send(source, Refuse(unknown))
        return moved

    # --- pushing --------------------------------------------------------------------------

    def offer(self, leader: LeaderState, turn: Turn) -> None:
        """The position, the high watermark or the log start of a partition may have moved."""
        for progress in leader.followers.values():
            stream = progress.stream
            if stream is None:
                continue
            if stream.pushed_end < leader.position:
                self._put_behind(stream)
            elif stream.has_news:
                self._news[stream] = None
        if self._news and not self._is_armed:
            self._is_armed = True
            turn.after(MARKS_DELAY_MS, PushMarks())

    def marks_due(self) -> None:
        self._is_armed = False
        for stream in self._news:
            if stream.has_news:
                stream.owes_answer = True
                self._put_behind(stream)
        self._news.clear()

    def probe(self, now_ms: int) -> None:
        """Ask followers that owe an acknowledgement where they stand."""
        for peer in self.peers.values():
            for stream in peer.streams.values():
                if now_ms - stream.pushed_ms >= PROBE_MS and not stream.is_confirmed:
                    stream.owes_answer = True
                    self._put_behind(stream)

    def _put_behind(self, stream: Stream) -> None:
        if not stream.is_behind:
            stream.is_behind = True
            stream.peer.behind.append(stream)

    def push(self, turn: Turn) -> None:
        """Send every peer what there is for it: at most one message each."""
        for peer in self.peers.values():
            if peer.behind:
                self._push_to(peer, turn)

    def _push_to(self, peer: Peer, turn: Turn) -> None:
        entries: list[PushEntry] = []
        frames: list[Buffer] = []
        size = 0
        behind = peer.behind
        for _ in range(len(behind)):
            credit = LIMITS.follower_credit_bytes - peer.unacknowledged_bytes
            stream = behind[0]
            limits = self.throttles.of(stream) if self.throttles.is_on else ()
            for limit in limits:
                credit = min(credit, limit.room(turn.now_ms))
                if credit <= 0:
                    self._look_again(turn, limit.wait_ms())
            if credit <= 0 and not stream.owes_answer:
                behind.rotate(-1)
                continue
            behind.popleft()
            stream.is_behind = False
            before = len(frames)
            try:
                taken = self._take(stream, credit, entries, frames)
                size += taken
                for limit in limits:
                    limit.take(taken)
            except CorruptLogError as error:
                # Never replicated (fault contract, C3).
                self.close(stream)
                self._damaged(stream.replica, error)
                continue
            except ApiError:
                # Its position fell below the log start: rule 4, it starts there afresh.
                self.close(stream)
                turn.send(peer.broker_id, Diverge([_afresh(stream.id, stream.replica.log)]))
                continue
            if len(frames) == before and stream.owes_answer:
                entries.append(self._entry(stream, stream.pushed_end, 0))
            stream.owes_answer = False
            stream.pushed_ms = turn.now_ms
            if stream.pushed_end < stream.leader.position:
                self._put_behind(stream)
        if entries:
            if len(frames) > 1 and size < JOINED_BYTES:
                frames = [b"".join(frames)]
            turn.send(peer.broker_id, Push(entries), frames)

    def _look_again(self, turn: Turn, wait_ms: int) -> None:
        if not self._is_throttle_armed:
            self._is_throttle_armed = True
            turn.after(wait_ms, ThrottleDue())

    def throttle_due(self) -> None:
        """What was held back is looked at in this turn, as in every other."""
        self._is_throttle_armed = False

    def _entry(self, stream: Stream, base_offset: int, size: int) -> PushEntry:
        leader = stream.leader
        log_start = stream.replica.log.log_start_offset
        stream.sent_high_watermark = leader.high_watermark
        stream.sent_log_start = log_start
        return PushEntry(stream.id, base_offset, size, leader.high_watermark, log_start)

    def _take(
        self, stream: Stream, credit: int, entries: list[PushEntry], frames: list[Buffer]
    ) -> int:
        """Add what the stream may be pushed now; its bytes."""
        leader = stream.leader
        taken = 0
        if credit <= 0 or stream.pushed_end >= leader.position:
            return 0
        if stream.pushed_end == leader.tail_base:
            for end, buffer in leader.written_tail():
                size = len(buffer)
                # A batch larger than all credit goes alone.
                if size > credit - taken and (taken or stream.peer.unacknowledged_bytes):
                    break
                self._pushed(stream, end, buffer, entries, frames)
                taken += size
            if taken or stream.pushed_end >= leader.position:
                return taken
        data, end = stream.replica.log.read_bytes(
            stream.pushed_end, min(self._max_read_bytes, credit), leader.position
        )
        if data:
            if starts_empty_before(data, stream.pushed_end):
                # Compaction has made one batch of what the follower holds the beginning of.
                data = start_empty_at(data, stream.pushed_end)
            self._pushed(stream, end, data, entries, frames)
        return len(data)

    def _pushed(
        self,
        stream: Stream,
        end: int,
        buffer: Buffer,
        entries: list[PushEntry],
        frames: list[Buffer],
    ) -> None:
        size = len(buffer)
        entries.append(self._entry(stream, stream.pushed_end, size))
        frames.append(buffer)
        stream.pushed_end = end
        stream.in_flight.append((end, size))
        stream.peer.unacknowledged_bytes += size


def _afresh(stream: int, log: PartitionLog) -> DivergeEntry:
    """To a follower that is to begin where this log does: with what is known of the producers
    whose batches it will not get."""
    start_offset = log.log_start_offset
    return DivergeEntry(stream, -1, start_offset, log.producers.below(start_offset).encode())
