"""What must hold after every event, in prose and then in code.

The numbers are those of the table of invariants; names follow Vanlightly's `kafka-tlaplus` and
KIP-966. `Ledger` keeps for each partition the truth that no process knows alone: what was
committed (by the high watermark of any leader that had the right to move it), who wrote in
which leader epoch, and how far each replica has been compared. Whoever watches the processes
tells it what a turn touched; each batch of each replica is looked at once.

    1   LeaderCompleteness: a leader of the highest epoch holds everything committed.
    2   LeaderCandidateCompleteness: so does every running member of the ISR and of the ELR.
    3   LogMatching: below both high watermarks the same offset has the same epoch and bytes.
    4   ReplicationQuorumSuperset: the maximal ISR of the leader of the highest epoch contains the
        controller's ISR, while that is at least min.
    5   A leader's high watermark never falls within its epoch; the true one never falls.
    6   It does not advance while the committed ISR is smaller than min(min ISR, replicas).
    7   Only a leader appends of its own: what is in a log carries epochs that never fall.
    8   Truncation takes away nothing that is committed.
    9   The ISR changes by the controller alone, one partition epoch at a time.
    10  Who joins an ISR is alive in the image, and holds everything committed (with 2).
    11  Who came back lossy is in no ISR and no ELR (`elections`).
    12  Who is elected was in the ISR or the ELR, or all who were have lost data (`elections`).
    13  One writer for each (partition, leader epoch).
    14  (producer id, epoch, sequence) is committed once, without holes; what a replica knows of
        producers ends where its log does, and has all of them when it is opened.
    15  An offset is given once: an acknowledgement names what is committed there.
    16  Consumers read committed records only, and the same bytes each time.
    17  The metadata image at an offset is the same wherever and whenever it is seen.
    18  What a returned fsync covers is there after every restart.
    19  Who stood still longer than a session serves nothing before the coordinator answered.

Of a compacted log, 3 and 16 compare records and not bytes: what stands at an offset is what was
committed there, with its epoch, or nothing; and nothing only where a later record of the same
key is committed, or a tombstone stood. In the end every replica holds the last value per key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kcluster.check.compacted import CompactedTruth
from kcluster.check.elections import Elections
from kcluster.check.producers import Known, batch_committed, log_opened
from kcluster.check.seen import BatchSeen, InvariantViolated, ReplicaSeen, require
from kcluster.core.metadata.records import PartitionChanged
from kcluster.errors import CorruptLogError
from kcluster.model import NO_LEADER, ZERO_TOPIC_ID, TopicPartition

Read = Callable[[int, int], Iterable[BatchSeen]]
"""Batches of a replica's log from an offset up to another (exclusive)."""


@dataclass(slots=True)
class _Replica:
    seen: ReplicaSeen
    matched_end: int = 0
    """Compared with what is committed, up to here."""


@dataclass(slots=True)
class _Partition:
    tp: TopicPartition
    committed: list[BatchSeen] = field(default_factory=list)
    bases: list[int] = field(default_factory=list)
    """Base offsets of `committed`."""
    epoch: int = -1
    """Highest leader epoch that had a leader."""
    writers: dict[int, tuple[int, int]] = field(default_factory=dict)
    """(broker, incarnation) by leader epoch."""
    replicas: dict[int, _Replica] = field(default_factory=dict)
    producers: Known = field(default_factory=dict)
    """Of what is committed."""
    state: PartitionChanged | None = None
    """The controller's newest."""
    compacted: CompactedTruth | None = None
    """The truth record by record, when it is compacted."""

    @property
    def committed_end(self) -> int:
        return self.committed[-1].last_offset + 1 if self.committed else 0

    def at(self, offset: int) -> BatchSeen | None:
        """The committed batch that holds `offset`."""
        index = bisect_right(self.bases, offset) - 1
        if index < 0 or self.committed[index].last_offset < offset:
            return None
        return self.committed[index]


class Ledger:
    """The truth about all partitions, and the check of whatever is told to it."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[bytes, int], _Partition] = {}
        self.images: dict[int, tuple[int, str]] = {}
        """(digest, who) of the metadata image, by its end offset."""
        self.running: dict[int, int] = {}
        """Incarnation by broker, of those that run."""
        self.registered: dict[int, int] = {}
        """Incarnation by broker, as the controller has it."""
        self.damaged: set[int] = set()
        """Brokers whose files were damaged while they were down."""
        self.elections = Elections()
        self.checks = 0

    def partition(self, topic_id: bytes, tp: TopicPartition) -> _Partition:
        key = topic_id, tp.partition
        found = self.partitions.get(key)
        if found is None:
            found = self.partitions[key] = _Partition(tp)
        return found

    def named(self, tp: TopicPartition, topic_id: bytes) -> _Partition | None:
        """By the id if there is one, else the newest of that name."""
        if topic_id != ZERO_TOPIC_ID:
            return self.partitions.get((topic_id, tp.partition))
        return next((p for p in reversed(self.partitions.values()) if p.tp == tp), None)

    # --- replicas -------------------------------------------------------------------------

    def replica(self, now: ReplicaSeen, read: Read) -> None:
        """A replica was touched."""
        self.checks += 1
        truth = self.partition(now.topic_id, now.tp)
        if now.is_compacted and truth.compacted is None:
            truth.compacted = CompactedTruth()
        known = truth.replicas.get(now.broker)
        before = known.seen if known is not None else None
        if known is None:
            known = truth.replicas[now.broker] = _Replica(now)
        require(
            0 <= now.log_start_offset <= now.high_watermark <= now.log_end_offset,
            5, "offsets in order", lambda: f"{now}: {now!r}",
        )  # fmt: skip
        require(
            now.producers_end <= now.log_end_offset, 14, "producers are those of the log",
            lambda: f"{now}: known up to {now.producers_end}, the log ends at {now.log_end_offset}",
        )  # fmt: skip
        if now.producers is not None:
            log_opened(truth.producers, now)
        if before is not None:
            self._truncation(truth, known, before, now)
        known.seen = now
        if now.is_leader:
            self._leader(truth, known, before, read)
            self._positions(truth, now)
        else:
            self._pushed(truth, now)
        require(
            now.high_watermark <= max(truth.committed_end, now.log_start_offset), 5,
            "a high watermark never runs ahead of the true one",
            lambda: f"{now} says {now.high_watermark}, committed is {truth.committed_end}",
        )  # fmt: skip
        self._match(truth, known, min(now.high_watermark, now.log_end_offset), read)
        self._candidates(truth)

    def _truncation(
        self, truth: _Partition, known: _Replica, before: ReplicaSeen, now: ReplicaSeen
    ) -> None:
        if now.incarnation != before.incarnation:
            # What a crash took away is the disk's business; it is compared from the start again.
            known.matched_end = 0
            require(
                # An emptied log, which has nothing, may not have come to the disk.
                now.log_end_offset >= before.flushed_end
                or before.flushed_end == before.log_start_offset
                or now.broker in self.damaged,
                18, "what is synced is not lost",
                f"{now} was synced up to {before.flushed_end}, ends at {now.log_end_offset}",
            )  # fmt: skip
            return
        if now.log_end_offset < before.log_end_offset:
            require(
                now.log_end_offset >= min(known.matched_end, truth.committed_end)
                or now.log_start_offset == now.log_end_offset,
                8, "truncation takes away nothing committed",
                f"{now} from {before.log_end_offset} to {now.log_end_offset}, "
                f"committed is {truth.committed_end}",
            )  # fmt: skip
            known.matched_end = min(known.matched_end, now.log_end_offset)
        if now.compactions != before.compactions:
            known.matched_end = 0

    def _leader(
        self,
        truth: _Partition,
        known: _Replica,
        before: ReplicaSeen | None,
        read: Read,
    ) -> None:
        now = known.seen
        writer = truth.writers.setdefault(now.leader_epoch, (now.broker, now.incarnation))
        require(
            writer == (now.broker, now.incarnation), 13, "one writer for each leader epoch",
            lambda: f"{now}, incarnation {now.incarnation}, and {writer} in epoch "
            f"{now.leader_epoch}",
        )  # fmt: skip
        was_leader = (
            before is not None
            and before.is_leader
            and (before.leader_epoch, before.incarnation) == (now.leader_epoch, now.incarnation)
        )
        if before is not None and was_leader:
            require(
                now.high_watermark >= before.high_watermark, 5,
                "a leader's high watermark never falls within its epoch",
                lambda: f"{now} from {before.high_watermark} to {now.high_watermark}",
            )  # fmt: skip
            if now.is_settled and now.isr != before.isr and len(now.isr) >= now.min_isr:
                held = [p.log_end_offset for p in now.positions
                        if p.has_stream or p.broker in now.maximal_isr]  # fmt: skip
                require(
                    now.high_watermark >= min(held, default=0), 4,
                    "the high watermark is looked at with every change of the ISR",
                    f"{now} stands at {now.high_watermark}, all hold {min(held, default=0)}",
                )  # fmt: skip
        if before is not None and before.incarnation == now.incarnation:
            had = len(before.isr) if was_leader else 0
            require(
                now.high_watermark <= before.high_watermark
                or max(had, len(now.isr)) >= now.min_isr,
                6, "no advance with an ISR smaller than min",
                lambda: f"{now} to {now.high_watermark} with ISR {sorted(now.isr)}, "
                f"min {now.min_isr}",
            )  # fmt: skip
        self.elections.believed(now.tp, (now.topic_id, now.tp.partition), now.partition_epoch)
        if now.leader_epoch >= truth.epoch:
            truth.epoch = now.leader_epoch
            require(
                now.log_end_offset >= truth.committed_end, 1, "LeaderCompleteness",
                lambda: f"{now}, epoch {now.leader_epoch}, ends at {now.log_end_offset}, "
                f"committed is {truth.committed_end}",
            )  # fmt: skip
            self._match(truth, known, truth.committed_end, read)
            self._quorum(truth, now)
        if now.high_watermark > truth.committed_end:
            self._commit(truth, known, now, read)

    def _positions(self, truth: _Partition, leader: ReplicaSeen) -> None:
        """A leader believes of its followers only what is so (4)."""
        for position in leader.positions:
            follower = truth.replicas.get(position.broker)
            if (
                position.has_stream
                and follower is not None
                and self.running.get(position.broker) == position.incarnation
                and follower.seen.incarnation == position.incarnation
                and follower.seen.leader_epoch == leader.leader_epoch
                and position.log_end_offset > follower.seen.log_end_offset
            ):
                raise InvariantViolated(
                    4, "a position is what its follower holds",
                    f"{leader} takes broker {position.broker} to hold {position.log_end_offset}, "
                    f"it ends at {follower.seen.log_end_offset}",
                )  # fmt: skip

    def _pushed(self, truth: _Partition, now: ReplicaSeen) -> None:
        """Rule 1: what is pushed is written where it comes from."""
        if self.running.get(now.broker) != now.incarnation:
            return
        for broker, replica in truth.replicas.items():
            leader = replica.seen
            if (
                leader.is_leader
                and leader.leader_epoch == now.leader_epoch
                and self.running.get(broker) == leader.incarnation
                and now.log_end_offset > leader.log_end_offset
                and any(p.broker == now.broker and p.has_stream for p in leader.positions)
            ):
                raise InvariantViolated(
                    "rule 1", "only what is written is pushed",
                    f"{now} ends at {now.log_end_offset}, its leader {broker} at "
                    f"{leader.log_end_offset}",
                )  # fmt: skip

    def _commit(self, truth: _Partition, known: _Replica, now: ReplicaSeen, read: Read) -> None:
        where = str(now)
        for batch in read(truth.committed_end, now.high_watermark):
            expected = truth.committed_end
            require(
                batch.base_offset == expected or not truth.committed, 15, "offsets without holes",
                f"{where}: batch at {batch.base_offset}, expected {expected}",
            )  # fmt: skip
            if truth.committed:
                require(
                    batch.leader_epoch >= truth.committed[-1].leader_epoch, 7,
                    "epochs in a log never fall", lambda batch=batch: f"{where}: {batch}",  # type: ignore[misc]
                )  # fmt: skip
            require(
                batch.leader_epoch <= now.leader_epoch, 7,
                "no batch of an epoch to come", lambda batch=batch: f"{where}: {batch}",  # type: ignore[misc]
            )  # fmt: skip
            batch_committed(truth.producers, batch, where)
            truth.committed.append(batch)
            truth.bases.append(batch.base_offset)
            if truth.compacted is not None:
                truth.compacted.commit(batch)
        require(
            truth.committed_end == now.high_watermark, 5,
            "the high watermark stands between batches",
            f"{where} says {now.high_watermark}, batches end at {truth.committed_end}",
        )  # fmt: skip
        leader = next(
            (
                replica.seen
                for broker, replica in truth.replicas.items()
                if replica.seen.is_leader
                and replica.seen.leader_epoch == truth.epoch
                and self.running.get(broker) == replica.seen.incarnation
            ),
            None,
        )
        require(
            leader is None or leader.log_end_offset >= truth.committed_end, 1,
            "LeaderCompleteness",
            f"{where} commits up to {truth.committed_end} in epoch {now.leader_epoch}, the leader "
            f"of epoch {truth.epoch} does not hold it",
        )  # fmt: skip

    def _match(self, truth: _Partition, known: _Replica, upto: int, read: Read) -> None:
        """Compare a replica with what is committed, from where that was left."""
        upto = min(upto, truth.committed_end)
        start = max(known.matched_end, known.seen.log_start_offset)
        if start >= upto:
            return
        try:
            self._match_between(truth, known, start, upto, read)
        except CorruptLogError:
            # Nobody has read there yet: to be found by who does, and compared once it is repaired.
            if known.seen.broker not in self.damaged:
                raise

    def _match_between(
        self, truth: _Partition, known: _Replica, start: int, upto: int, read: Read
    ) -> None:
        where = str(known.seen)
        if truth.compacted is not None:
            for batch in read(start, upto):
                truth.compacted.match(batch, start, 3, "LogMatching", where)
                start = batch.last_offset + 1
            known.matched_end = start
            return
        for batch in read(start, upto):
            committed = truth.at(batch.base_offset)
            if committed is None and batch.base_offset < truth.bases[0]:
                continue
            if committed != batch:
                raise InvariantViolated(
                    3, "LogMatching", f"{where}: {batch}, committed is {committed}"
                )
            start = batch.last_offset + 1
        require(start >= upto, 3, "LogMatching", f"{where} has nothing from {start}, up to {upto}")
        known.matched_end = start

    # --- the controller -------------------------------------------------------------------

    def controller_restarted(self) -> None:
        """What it had decided and not synced may be gone."""
        for truth in self.partitions.values():
            truth.state = None

    def partition_state(
        self, tp: TopicPartition, state: PartitionChanged, alive: frozenset[int]
    ) -> None:
        """The controller's state of a partition after a turn that changed it; `alive` are the
        brokers of its image that are not fenced."""
        self.checks += 1
        truth = self.partition(state.topic_id, tp)
        before = truth.state
        truth.state = state
        isr, elr, replicas = set(state.isr), set(state.elr), set(state.replicas)
        what = f"{tp}: {state}"
        require(len(isr) == len(state.isr), 9, "an ISR names nobody twice", what)
        require(isr <= replicas and elr <= replicas, 9, "ISR and ELR are replicas", what)
        require(not isr & elr, 9, "ISR and ELR are disjoint", what)
        require(
            state.leader in isr or state.leader == NO_LEADER, 9, "the leader is in the ISR", what
        )
        if before is not None and before != state:
            require(
                state.partition_epoch > before.partition_epoch, 9,
                "a change raises the partition epoch", f"{what} after {before}",
            )  # fmt: skip
            require(
                state.leader_epoch >= before.leader_epoch, 9, "the leader epoch never falls",
                f"{what} after {before}",
            )  # fmt: skip
            require(
                state.leader == before.leader or state.leader_epoch > before.leader_epoch, 9,
                "a new leader has a new epoch", f"{what} after {before}",
            )  # fmt: skip
            self.elections.reassigned(tp, before, state)
            self.elections.changed(tp, before, state)
            joined = isr - set(before.isr)
            if state.leader_epoch == before.leader_epoch:
                require(joined <= alive, 10, "who joins the ISR is alive", f"{what} after {before}")
        self._candidates(truth)
        leader = truth.replicas.get(state.leader)
        if leader is not None and leader.seen.is_leader:
            self._quorum(truth, leader.seen)

    def _quorum(self, truth: _Partition, leader: ReplicaSeen) -> None:
        state = truth.state
        if state is None or leader.leader_epoch != state.leader_epoch:
            return
        if self.running.get(leader.broker) != leader.incarnation:
            return
        if len(state.isr) >= leader.min_isr:
            require(
                leader.maximal_isr >= set(state.isr), 4, "ReplicationQuorumSuperset",
                lambda: f"{leader}: maximal ISR {sorted(leader.maximal_isr)}, the controller's "
                f"{state.isr}",
            )  # fmt: skip

    def _candidates(self, truth: _Partition) -> None:
        state = truth.state
        if state is None:
            return
        for broker in (*state.isr, *state.elr):
            replica = truth.replicas.get(broker)
            if replica is None or self.running.get(broker) != replica.seen.incarnation:
                continue
            if self.registered.get(broker) != replica.seen.incarnation:
                # The controller has not heard yet how its logs came back.
                continue
            if replica.seen.log_end_offset < truth.committed_end:
                raise InvariantViolated(
                    2, "LeaderCandidateCompleteness",
                    f"{truth.tp}: broker {broker} of ISR {state.isr}, ELR {state.elr} ends at "
                    f"{replica.seen.log_end_offset}, committed is {truth.committed_end}",
                )  # fmt: skip

    def image(self, who: str, end_offset: int, digest: int) -> None:
        """A committed metadata image, wherever it is."""
        self.checks += 1
        told = self.images.setdefault(end_offset, (digest, who))
        require(
            told[0] == digest, 17, "the image at an offset is the same everywhere",
            f"{who} and {told[1]} differ at {end_offset}",
        )  # fmt: skip

    # --- clients --------------------------------------------------------------------------

    def acknowledged(
        self, tp: TopicPartition, base_offset: int, count: int, topic_id: bytes = ZERO_TOPIC_ID
    ) -> None:
        """A produce reply (acks=all) without error leaves a broker."""
        truth = self.named(tp, topic_id)
        if truth is None:
            return
        require(
            base_offset + count <= truth.committed_end, 15,
            "what is acknowledged is committed",
            f"{tp}: {count} from {base_offset}, committed is {truth.committed_end}",
        )  # fmt: skip

    def consumed(
        self,
        tp: TopicPartition,
        batches: Iterable[BatchSeen],
        topic_id: bytes = ZERO_TOPIC_ID,
    ) -> None:
        """A fetch reply leaves a broker."""
        truth = self.named(tp, topic_id)
        if truth is None:
            return
        for batch in batches:
            require(
                batch.last_offset < truth.committed_end, 16, "consumers read committed records",
                lambda batch=batch: f"{tp}: {batch}, committed is {truth.committed_end}",  # type: ignore[misc]
            )  # fmt: skip
            if truth.compacted is not None:
                what = "consumers read the same records each time"
                truth.compacted.match(batch, batch.base_offset, 16, what, f"{tp}")
                continue
            committed = truth.at(batch.base_offset)
            if committed != batch:
                raise InvariantViolated(
                    16, "consumers read the same bytes each time",
                    f"{tp}: {batch}, committed is {committed}",
                )  # fmt: skip
