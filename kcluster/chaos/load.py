"""A checked load: write and read while a cluster is being broken, then look at every replica.

    Load(plan, reach)
      .prepare()      the topic, and where it ends now
      .start()        writers and readers, in threads
      .tick()         figures of this moment
      .finish()       no more writing; wait for answers, for full ISRs, for the readers
      .judge()        every replica from the log start to the high watermark -> Report

Between two of them anything may happen to the cluster. What does not come within its bound is
said in the report, never waited for without end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kcluster.chaos.judge import Judge, Replica
from kcluster.chaos.ledger import Meter, Stream
from kcluster.chaos.reach import AGAIN_S, Asker, Reach
from kcluster.chaos.reader import Reader
from kcluster.chaos.replicas import BEHIND_S, Batch, Unreadable, from_broker, from_files
from kcluster.chaos.report import Described, Figures, ReplicaReport, Report, make_report
from kcluster.chaos.seen import Seen
from kcluster.chaos.topic import Topic
from kcluster.chaos.workload import Workload
from kcluster.chaos.writer import Writer
from kcluster.check import groups
from kcluster.check.groups import GroupHistory
from kcluster.core.client.producer import ProducerSettings
from kcluster.core.log.checkpoints import HIGH_WATERMARKS, parse_offsets
from kcluster.errors import CorruptLogError, UsageError
from kcluster.model import TopicPartition
from kcluster.processes.workdir import locate

SENDS_MAX: Final = 5_000_000
"""Of one load: what is remembered of them takes less than 100 MB. Writing ends there."""

READY_S: Final = 15.0
"""How long readers may take to have their partitions before writing begins."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    topic: str = "load"
    partitions: int = 6
    """Of a topic that has to be made."""
    replication_factor: int | None = None
    """Of a topic that has to be made; None for three, or as many as there are brokers."""
    acks: int = -1
    rate: float | None = 1_000.0
    """Records/s of all producers; None for as fast as it goes."""
    duration_s: float | None = 10.0
    """None: until it is told to stop."""
    size: int = 100
    """Bytes of a value."""
    producers: int = 1
    readers: int = 1
    group: str | None = None
    is_idempotent: bool = True
    settle_s: float = 60.0
    """For each: the last answers, full ISRs, the readers' end."""


@dataclass(slots=True)
class _End:
    """How a partition stood when writing was over. Offsets -1 when nobody said."""

    leader: int = -1
    replicas: list[int] = field(default_factory=list)
    isr: list[int] = field(default_factory=list)
    log_start_offset: int = -1
    high_watermark: int = -1


class Load:
    def __init__(self, plan: LoadPlan, reach: Reach) -> None:
        self.plan = plan
        self.notes: list[str] = []
        self._reach = reach
        self._run = os.urandom(4).hex()
        self._topic = Topic(plan.topic)
        self._stops_writing = threading.Event()
        self._stops_reading = threading.Event()
        self._writers: list[Writer] = []
        self._readers: list[Reader] = []
        self._groups = GroupHistory()
        self._started = 0.0
        self._seconds = 0.0
        self._is_drained = False
        self._has_crashed = False

    # --- before

    def prepare(self) -> None:
        """Make the topic unless it is there. UsageError when it cannot be."""
        plan = self.plan
        with Asker(self._reach) as asker:
            partitions = self._topic.ensure(asker, plan.partitions, plan.replication_factor)
            begins = self._topic.await_ends(asker, partitions)
        self.workload = Workload(self._run, plan.topic, partitions, plan.producers, plan.size)
        self.streams = [Stream() for _ in range(self.workload.streams)]
        self.meter = Meter(partitions)
        self._begins = begins
        # Others may write to the topic as well.
        offsets_max = 2 * SENDS_MAX // partitions
        self._seen = [Seen(begin, offsets_max) for begin in begins]

    def start(self) -> None:
        plan = self.plan
        self._readers = [
            Reader(
                number,
                self._reach,
                self.workload,
                self._seen,
                self.meter,
                self._stops_reading,
                plan.group,
                self._groups,
            )
            for number in range(plan.readers)
        ]
        for reader in self._readers:
            reader.start()
        for reader in self._readers[: self.workload.partitions]:
            reader.is_ready.wait(READY_S)
        settings = ProducerSettings(acks=plan.acks, is_idempotent=plan.is_idempotent)
        self._writers = [
            Writer(
                number,
                self._reach,
                self.workload,
                self.streams,
                self.meter,
                settings,
                rate=None if plan.rate is None else plan.rate / plan.producers,
                sends_max=SENDS_MAX // plan.producers,
                stops=self._stops_writing,
                drain_s=plan.settle_s,
            )
            for number in range(plan.producers)
        ]
        self._started = time.monotonic()
        for writer in self._writers:
            writer.start()

    # --- meanwhile

    @property
    def seconds(self) -> float:
        """Of writing, so far."""
        return self._seconds or time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """The duration is, or nobody writes any more."""
        duration_s = self.plan.duration_s
        if duration_s is not None and self.seconds >= duration_s:
            return True
        return not any(writer.is_alive() for writer in self._writers)

    def tick(self) -> Figures:
        """Since the last call, and so far."""
        recent = self.meter.take_recent()
        meter = self.meter
        return Figures(
            self.seconds,
            recent.count,
            recent.percentile(0.5),
            recent.percentile(0.99),
            meter.sent,
            0 if self.plan.acks == 0 else meter.acknowledged,
            meter.failed,
            meter.unknown,
            meter.sent - meter.acknowledged - meter.failed - meter.unknown,
            meter.polled,
            0.0 if self.plan.acks == 0 else meter.gap_ns(time.monotonic_ns()) / 1e6,
        )

    # --- after

    def stop(self) -> None:
        """Send no more."""
        if not self._stops_writing.is_set():
            self._seconds = time.monotonic() - self._started
            self._stops_writing.set()

    def finish(self) -> None:
        """Until everything has come, each within its bound: answers, ISRs, readers."""
        self.stop()
        settle_s = self.plan.settle_s
        for writer in self._writers:
            writer.join(settle_s + READY_S)
            if writer.is_alive():
                self.notes.append(f"{writer.name} did not end; what it has sent is unknown")
            self._note_breaks(writer)
            if writer.is_full:
                self.notes.append(f"{writer.name} stopped at its bound of sends")
        self._ends = [_End() for _ in range(self.workload.partitions)]
        with self._asker(settle_s) as asker:
            if asker is None:
                self.notes.append(f"no broker could be reached in {settle_s:g} s")
            else:
                self._await_in_sync(asker, settle_s)
                self._look(asker)
        self._finish_reading(settle_s)
        with self._asker(0) as asker:
            if asker is not None:
                # What was under way may have come in since, and readers may have it.
                self._look(asker)
        self.notes += [
            f"nobody said where {self.plan.topic}-{partition} ends"
            for partition, end in enumerate(self._ends)
            if end.high_watermark < 0
        ]

    def _note_breaks(self, who: Writer | Reader) -> None:
        if who.breaks:
            self.notes.append(f"{who.name} had to begin anew {who.breaks} times: {who.problem}")
        if who.crash:
            self._has_crashed = True
            self.notes.append(f"{who.name} ended by a bug: {who.crash}")

    def _await_in_sync(self, asker: Asker, settle_s: float) -> None:
        deadline = time.monotonic() + settle_s
        while True:
            states = self._topic.states(asker)
            behind = [
                f"{self.plan.topic}-{state.partition_index} has leader {state.leader_id} and ISR"
                f" {sorted(state.isr_nodes)} of {sorted(state.replica_nodes)}"
                for state in states
                if state.leader_id < 0 or set(state.isr_nodes) != set(state.replica_nodes)
            ]
            if states and not behind:
                return
            if time.monotonic() > deadline:
                self.notes += behind or ["nobody described the topic"]
                return
            time.sleep(AGAIN_S)

    def _look(self, asker: Asker) -> None:
        """Leaders, ISRs and both ends as they are now, where somebody says."""
        for state in self._topic.states(asker):
            if state.partition_index >= len(self._ends):
                continue
            end = self._ends[state.partition_index]
            end.leader = state.leader_id
            end.replicas = sorted(state.replica_nodes)
            end.isr = sorted(state.isr_nodes)
            if end.leader >= 0:
                found = self._topic.offsets(asker, state.partition_index, end.leader)
                if found is not None:
                    end.log_start_offset, end.high_watermark = found

    @contextlib.contextmanager
    def _asker(self, timeout_s: float) -> Iterator[Asker | None]:
        """None when no broker runs, and none is started in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                asker = Asker(self._reach)
                break
            except UsageError:
                if time.monotonic() > deadline:
                    yield None
                    return
                time.sleep(AGAIN_S)
        with asker:
            yield asker

    def _finish_reading(self, settle_s: float) -> None:
        deadline = time.monotonic() + settle_s
        while self._readers and not self._is_drained and time.monotonic() < deadline:
            self._is_drained = all(
                seen.next_offset >= end.high_watermark >= 0
                for seen, end in zip(self._seen, self._ends, strict=True)
            )
            time.sleep(AGAIN_S)
        self._stops_reading.set()
        for reader in self._readers:
            reader.join(READY_S)
            self._note_breaks(reader)
        if any(seen.is_cut for seen in self._seen):
            self.notes.append("readers were given more than can be judged")
        if self._readers and not self._is_drained:
            self.notes.append(f"the readers did not reach the end in {settle_s:g} s")

    # --- the verdict

    def judge(self) -> Report:
        """Scan every replica. What cannot be scanned is said."""
        plan = self.plan
        judge = Judge(self.workload, self.streams, plan.acks)
        scanned: list[ReplicaReport] = []
        directories = self._directories()
        with contextlib.ExitStack() as stack:
            asker = None
            if not self._reach.is_local:
                asker = stack.enter_context(self._asker(0))
            for partition, end in enumerate(self._ends):
                tp = TopicPartition(plan.topic, partition)
                if asker is not None:
                    self._follow_leader(asker, partition)
                brokers = end.replicas or [
                    broker for broker, path in directories.items() if (path / str(tp)).is_dir()
                ]
                replicas = [
                    Replica(broker, is_in_sync=broker in end.isr and end.high_watermark >= 0)
                    for broker in brokers
                ]
                for replica in replicas:
                    replica.batches = self._batches(asker, directories, tp, end, replica)
                judge.partition(
                    tp,
                    self._begins[partition],
                    max(end.log_start_offset, 0),
                    replicas,
                    self._seen[partition] if self._readers else None,
                    is_drained=self._is_drained,
                )
                scanned += [
                    ReplicaReport(
                        partition,
                        replica.broker,
                        replica.broker == end.leader,
                        replica.is_in_sync,
                        replica.records,
                        replica.end_offset,
                        replica.problem,
                    )
                    for replica in replicas
                ]
        for name, example in groups.find(self._groups, {}):
            judge.verdict.anomalies.add(name, example)
        repeated = sum(seen.repeated for seen in self._seen)
        is_settled = all(
            end.leader >= 0 and end.isr == end.replicas and end.high_watermark >= 0
            for end in self._ends
        )
        return make_report(
            self._described(),
            self.meter,
            judge.verdict,
            scanned,
            self.notes,
            repeated,
            is_settled=is_settled
            and (self._is_drained or not self._readers)
            and not self._has_crashed,
        )

    def _follow_leader(self, asker: Asker, partition: int) -> None:
        """Leaders may have moved since everything was in sync: only they serve everybody."""
        for state in self._topic.states(asker):
            if state.partition_index == partition and state.leader_id >= 0:
                self._ends[partition].leader = state.leader_id

    def _described(self) -> Described:
        plan = self.plan
        return Described(
            self._reach.bootstrap or self._reach.cluster,
            plan.topic,
            self._run,
            plan.acks,
            plan.is_idempotent and plan.acks == -1,
            plan.producers,
            plan.readers,
            plan.group,
            plan.rate,
            self.workload.size,
            self.workload.partitions,
            self.seconds,
        )

    def _batches(
        self,
        asker: Asker | None,
        directories: dict[int, Path],
        tp: TopicPartition,
        end: _End,
        replica: Replica,
    ) -> Iterator[Batch]:
        if not self._reach.is_local:
            if asker is None or end.high_watermark < 0:
                raise Unreadable(f"nobody said where {tp} ends")
            begin = max(end.log_start_offset, 0)
            behind_s = BEHIND_S if replica.is_in_sync else 0.0
            yield from from_broker(asker, replica.broker, tp, begin, end.high_watermark, behind_s)
            return
        if replica.broker not in directories:
            raise Unreadable(f"broker {replica.broker} has no directory here")
        directory = directories[replica.broker]
        end_offset = end.high_watermark if end.high_watermark >= 0 else None
        if not replica.is_in_sync:
            # Behind its own high watermark it may hold what its next leader has it truncate.
            own = _high_watermark(directory, tp)
            end_offset = own if end_offset is None else min(own, end_offset)
        yield from from_files(directory / str(tp), end_offset)

    def _directories(self) -> dict[int, Path]:
        """Log directories by broker, of a cluster of this machine, whether or not it runs."""
        if not self._reach.is_local:
            return {}
        found = {}
        for path in locate(self._reach.cluster).glob("broker-*"):
            number = path.name.removeprefix("broker-")
            if number.isdecimal() and path.is_dir():
                found[int(number)] = path
        return found


def _high_watermark(directory: Path, tp: TopicPartition) -> int:
    """As a broker last wrote it down; 0 when it did not."""
    try:
        return parse_offsets((directory / HIGH_WATERMARKS).read_bytes()).get(tp, 0)
    except (OSError, CorruptLogError):
        return 0
