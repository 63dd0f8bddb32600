"""The verdict on one partition: every send against every replica, and every poll.

    replicas --batches--> held: which send stands at each offset --> anomalies, by their names

The first replica is read in full. Each further one is compared with it batch by batch, and is
only read where it is not the same; then it is judged by itself. Equal ones are judged once.
Names are those of `check/anomalies.py`, and two more:

    unseen           there, and readers that had time for it were never given it
    corrupt-log      a replica's files do not hold what a broker once wrote

Not everything is promised: see `is_promised`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kcluster.chaos.ledger import FAIL, OK, Stream
from kcluster.chaos.replicas import Batch, Unreadable
from kcluster.chaos.seen import Seen
from kcluster.chaos.workload import (
    EMPTY,
    FOREIGN,
    OTHER,
    Workload,
    sequence_of,
    stream_of,
    token_of,
)
from kcluster.check.anomalies import EXAMPLES_MAX, Anomalies
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition
from kcluster.wire.records import read_records

LOST: Final = 1
DUPLICATED: Final = 2
REORDERED: Final = 4


def is_promised(name: str, acks: int, *, is_idempotent: bool) -> bool:
    """Whether an anomaly of this name breaks what Kafka promises to such a producer."""
    match name:
        case "lost-write":
            return acks == -1
        case "duplicate" | "reordering":
            return acks == -1 and is_idempotent
    return True


@dataclass(slots=True)
class Replica:
    """One to be judged; what came of it is filled in."""

    broker: int
    batches: Iterable[Batch] = ()
    """From the log start to the high watermark; its own when it is not in sync."""
    is_in_sync: bool = True
    records: int = 0
    """Of the load."""
    end_offset: int = -1
    problem: str = ""
    """Why it was not read to its end."""


@dataclass(slots=True)
class Verdict:
    """On all partitions judged so far."""

    anomalies: Anomalies = field(default_factory=Anomalies)
    lost: int = 0
    """Sends that some replica lacks; each counts once."""
    duplicated: int = 0
    reordered: int = 0
    unknown_written: int = 0
    """Sends of unknown outcome that are there."""
    expired: int = 0
    """Acknowledged below the log start: retention took them."""

    def add(self, name: str, example: Callable[[], str]) -> None:
        """An example is only made when it is kept."""
        is_wanted = self.anomalies.counts.get(name, 0) < EXAMPLES_MAX
        self.anomalies.add(name, example() if is_wanted else "")


class _Spine:
    """The batches of a replica, without their content."""

    __slots__ = ("base", "crc", "epoch", "last")

    def __init__(self) -> None:
        self.base = array("q")
        self.last = array("q")
        self.epoch = array("i")
        self.crc = array("Q")

    def add(self, batch: Batch) -> None:
        self.base.append(batch.base_offset)
        self.last.append(batch.last_offset)
        self.epoch.append(batch.leader_epoch)
        self.crc.append(batch.crc)

    def differs(self, number: int, batch: Batch) -> bool:
        return (
            number >= len(self.base)
            or self.base[number] != batch.base_offset
            or self.last[number] != batch.last_offset
            or self.epoch[number] != batch.leader_epoch
            or self.crc[number] != batch.crc
        )


class Judge:
    def __init__(self, workload: Workload, streams: list[Stream], acks: int) -> None:
        self.verdict = Verdict()
        self._workload = workload
        self._streams = streams
        self._acks = acks

    def partition(
        self,
        tp: TopicPartition,
        begin_offset: int,
        log_start_offset: int,
        replicas: list[Replica],
        seen: Seen | None = None,
        *,
        is_drained: bool = False,
    ) -> None:
        """`begin_offset` is where the load began. `is_drained`: readers reached the end, so that
        what they were not given they will never be given."""
        case = _Partition(self, tp, begin_offset, log_start_offset)
        in_order = sorted(replicas, key=lambda each: (not each.is_in_sync, each.broker))
        for replica in in_order:
            case.replica(replica)
        case.writes_of_equal()
        if seen is not None:
            case.polls(seen, is_drained=is_drained)
        case.close()


class _Partition:
    def __init__(
        self, judge: Judge, tp: TopicPartition, begin_offset: int, log_start_offset: int
    ) -> None:
        self.verdict = judge.verdict
        self.workload = judge._workload
        self.acks = judge._acks
        self.tp = tp
        self.begin = begin_offset
        self.log_start = log_start_offset
        self.streams = {
            stream: judge._streams[stream]
            for stream in range(tp.partition, self.workload.streams, self.workload.partitions)
        }
        self.flags = {stream: bytearray(len(sends)) for stream, sends in self.streams.items()}
        """What is wrong with each send on any replica: LOST, DUPLICATED, REORDERED."""
        self.held: array[int] | None = None
        """By offset from `begin` on, of the first replica that could be read."""
        self.spine = _Spine()
        self.first_broker = -1
        self.equal: list[int] = []
        """In-sync replicas that hold the same as the first, itself included."""
        self.is_counted = False

    # --- reading

    def replica(self, replica: Replica) -> None:
        is_first = self.held is None
        held: array[int] = array("q")
        spine = _Spine()
        apart: tuple[int, str] | None = None
        number = 0
        try:
            for batch in replica.batches:
                if batch.last_offset < self.log_start:
                    continue
                replica.end_offset = batch.last_offset + 1
                if is_first:
                    spine.add(batch)
                    self._take(held, batch)
                    continue
                assert self.held is not None
                if apart is None and not self.equal and number == len(self.spine.base):
                    # None is in sync: each goes as far as it knows, and the longest is the measure.
                    self.spine.add(batch)
                    self._take(self.held, batch)
                elif apart is None and self.spine.differs(number, batch):
                    apart = batch.base_offset, "holds another batch there"
                    held = self.held[: max(batch.base_offset - self.begin, 0)]
                if apart is not None:
                    self._take(held, batch)
                number += 1
        except CorruptLogError as error:
            replica.problem = str(error)
            text = f"{self.tp} on broker {replica.broker}: {error}"
            self.verdict.add("corrupt-log", lambda: text)
        except Unreadable as error:
            replica.problem = str(error)
            return
        if is_first:
            self.held, self.spine, self.first_broker = held, spine, replica.broker
        elif apart is None and replica.is_in_sync and number < len(self.spine.base):
            apart = self.spine.base[number], "ends there"
            assert self.held is not None
            held = self.held[: max(apart[0] - self.begin, 0)]
        if apart is not None:
            at, how = apart
            self.verdict.add(
                "diverged-logs",
                lambda: (
                    f"{self.tp}: brokers {self.first_broker} and {replica.broker},"
                    f" first at {at}: the second {how}"
                ),
            )
            replica.records = self._records(held)
            if replica.is_in_sync:
                self._writes(held, [replica.broker])
            return
        assert self.held is not None
        replica.records = self._records(self.held[: max(replica.end_offset - self.begin, 0)])
        if replica.is_in_sync:
            self.equal.append(replica.broker)

    def writes_of_equal(self) -> None:
        if self.held is not None and self.equal:
            self._writes(self.held, self.equal)

    def _take(self, held: array[int], batch: Batch) -> None:
        """Note what stands at each offset of it."""
        if batch.last_offset < self.begin:
            return
        token, begin = self.workload.token, self.begin
        try:
            records = read_records(batch.read())
        except Exception as error:
            raise CorruptLogError(f"the batch at {batch.base_offset}: {error}") from None
        for record in records:
            index = record.offset - begin
            if index < 0:
                continue
            if index > len(held):
                held.extend([EMPTY] * (index - len(held)))
            if index == len(held):
                held.append(token(record.value))

    def _records(self, held: array[int]) -> int:
        return len(held) - held.count(EMPTY) - held.count(OTHER)

    # --- sends

    def _writes(self, held: array[int], brokers: list[int]) -> None:
        plural = "s" if len(brokers) > 1 else ""
        where = f"{self.tp} on broker{plural} {', '.join(map(str, brokers))}"
        places = {stream: array("q", [-1]) * len(sends) for stream, sends in self.streams.items()}
        for offset, token in enumerate(held, self.begin):
            if token >= 0:
                stream, sequence = stream_of(token), sequence_of(token)
                mine = places.get(stream)
                if mine is not None and sequence < len(mine):
                    if mine[sequence] < 0:
                        mine[sequence] = offset
                    else:
                        self._duplicate(where, token, mine[sequence], offset)
                    continue
            elif token != FOREIGN:
                continue
            self.verdict.add(
                "foreign-write",
                lambda token=token, offset=offset: (  # type: ignore[misc]
                    f"{where}: {self.workload.told(token)} at {offset}"
                ),
            )
        for stream, mine in places.items():
            self._stream(where, stream, mine, held)
        self.is_counted = True

    def _duplicate(self, where: str, token: int, first: int, again: int) -> None:
        self.flags[stream_of(token)][sequence_of(token)] |= DUPLICATED
        self.verdict.add(
            "duplicate", lambda: f"{where}: {self.workload.told(token)} at {first} and {again}"
        )

    def _stream(self, where: str, stream: int, places: array[int], held: array[int]) -> None:
        sends = self.streams[stream]
        flags = self.flags[stream]
        last = -1
        key = self.workload.key(stream).decode()
        for sequence, (outcome, told, at) in enumerate(
            zip(sends.outcomes, sends.offsets, places, strict=True)
        ):
            if outcome == OK:
                if at < 0:
                    self._missing(where, f"{sequence} of key {key}", told, flags, sequence)
                    continue
                if at < last:
                    flags[sequence] |= REORDERED
                    self.verdict.add(
                        "reordering",
                        lambda sequence=sequence, at=at, last=last: (  # type: ignore[misc]
                            f"{where}: {sequence} of key {key} at {at}, behind one at {last}"
                        ),
                    )
                last = max(last, at)
                # With acks=1 a new leader may put another record where one was acknowledged; a
                # producer that is not idempotent may be told of the second place of a duplicate.
                if self.acks == -1 and told >= 0 and told != at:
                    index = told - self.begin
                    if 0 <= index < len(held) and held[index] == token_of(stream, sequence):
                        continue
                    self.verdict.add(
                        "inconsistent-offsets",
                        lambda sequence=sequence, told=told, at=at: (  # type: ignore[misc]
                            f"{where}: {sequence} of key {key} acked at {told}, stands at {at}"
                        ),
                    )
            elif at >= 0:
                if outcome == FAIL:
                    self.verdict.add(
                        "phantom-write",
                        lambda sequence=sequence, at=at: (  # type: ignore[misc]
                            f"{where}: {sequence} of key {key}, refused, at {at}"
                        ),
                    )
                elif not self.is_counted:
                    self.verdict.unknown_written += 1

    def _missing(self, where: str, send: str, told: int, flags: bytearray, sequence: int) -> None:
        if 0 <= told < self.log_start or (told < 0 and self.log_start > self.begin):
            self.verdict.expired += not self.is_counted
            return
        flags[sequence] |= LOST
        how = "handed over" if self.acks == 0 else f"acked at {told}" if told >= 0 else "acked"
        self.verdict.add("lost-write", lambda: f"{where}: {send}, {how}")

    # --- polls

    def polls(self, seen: Seen, *, is_drained: bool) -> None:
        told = self.workload.told
        add = self.verdict.add
        for note in seen.backwards:
            add(
                "nonmonotonic-poll",
                lambda note=note: (  # type: ignore[misc]
                    f"{note.reader} was given {self.tp}@{note.offset} behind {note.expected - 1}"
                ),
            )
        for offset, one, other in seen.changed:
            add(
                "inconsistent-offsets",
                lambda offset=offset, one=one, other=other: (  # type: ignore[misc]
                    f"{self.tp}@{offset}: {told(one)} polled, and {told(other)} polled"
                ),
            )
        held = self.held
        if held is None:
            return
        for note in seen.gaps:
            first = max(note.expected, self.begin, self.log_start)
            for offset in range(first, min(note.offset, self.begin + len(held))):
                if held[offset - self.begin] != EMPTY:
                    add(
                        "poll-skip",
                        lambda note=note, offset=offset: (  # type: ignore[misc]
                            f"{note.reader} was not given {self.tp}@{offset}"
                        ),
                    )
        skipped = max(self.log_start - self.begin, 0)
        # One that is not in sync may rightly end before what readers were given by others.
        end = max(len(held), len(seen.tokens)) if self.equal else len(held)
        for index in range(skipped, end):
            there = held[index] if index < len(held) else EMPTY
            given = seen.tokens[index] if index < len(seen.tokens) else EMPTY
            if there == given:
                continue
            offset = index + self.begin
            if given != EMPTY:
                add(
                    "inconsistent-offsets",
                    lambda offset=offset, there=there, given=given: (  # type: ignore[misc]
                        f"{self.tp}@{offset}: {told(given)} polled,"
                        f" but {told(there)} on broker {self.first_broker}"
                    ),
                )
            elif is_drained and not seen.is_cut and there >= 0:
                add(
                    "unseen",
                    lambda offset=offset, there=there: (  # type: ignore[misc]
                        f"{told(there)} at {self.tp}@{offset} was given to no reader"
                    ),
                )

    def close(self) -> None:
        for flags in self.flags.values():
            for flag in flags.translate(None, b"\0"):
                self.verdict.lost += bool(flag & LOST)
                self.verdict.duplicated += bool(flag & DUPLICATED)
                self.verdict.reordered += bool(flag & REORDERED)
