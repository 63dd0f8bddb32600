"""What is missing to convergence, and what every replica holds in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kcluster.check.history import History
from kcluster.errors import CorruptLogError
from kcluster.model import COORDINATOR, NO_LEADER, TopicPartition
from kcluster.sim.cluster import SimCluster
from kcluster.sim.consumer import Consumer
from kcluster.sim.watch import Watch, record_seen
from kcluster.wire.records import Record, batches, read_records


class Verdict:
    def __init__(self, cluster: SimCluster, watch: Watch, history: History) -> None:
        self.cluster = cluster
        self.watch = watch
        self.history = history

    def _core(self, id: int) -> Any:
        return self.cluster.processes[id].core

    def missing(
        self,
        tp: TopicPartition,
        consumers: list[Consumer],
        of_groups: Callable[[TopicPartition, int, int], str] = lambda tp, start, end: "",
    ) -> str:
        """What keeps a partition from being converged; empty when nothing does."""
        controller = self._core(COORDINATOR)
        if controller is None:
            return "no coordinator"
        state = controller.image.partition(tp)
        if state is None:
            return f"no {tp}"
        is_whole = sorted(state.isr) == sorted(state.replicas)
        if state.leader == NO_LEADER or not is_whole or state.is_reassigning:
            return f"{tp}: {state}"
        ends = set()
        start = 0
        for id in state.replicas:
            core = self._core(id)
            replica = core.replicas.get(tp) if core is not None else None
            if (
                replica is None
                or replica.offline
                or replica.log.failure
                or replica.topic_id != state.topic_id
            ):
                return f"{tp}: no replica on broker {id}"
            ends.add((replica.log.log_end_offset, replica.log.high_watermark))
            start = max(start, replica.log.log_start_offset)
        if len(ends) > 1 or len(set(next(iter(ends)))) > 1:
            return f"{tp}: (log end, high watermark) are {sorted(ends)}"
        [(end, _)] = ends
        for consumer in consumers:
            if consumer.tp == tp and consumer.position < end:
                return f"{consumer.client.name} is at {consumer.position} of {end}"
        return of_groups(tp, start, end)

    def moving(self) -> str:
        """A partition of any topic whose reassignment is not complete; empty when there is none."""
        for topic in self._core(COORDINATOR).image.topics.values():
            for state in topic.partitions.values():
                if state.is_reassigning:
                    return f"{topic.name} is being reassigned: {state}"
        return ""

    def _damaged(self) -> dict[int, Any]:
        """Brokers that run on files that were damaged."""
        processes = self.cluster.processes.values()
        return {each.id: each.core for each in processes if each.was_damaged and each.core}

    def read_damaged(self) -> bool:
        """Read all that brokers with damaged files hold, as clients might have: whether damage
        was found that nobody had come across yet."""
        found = False
        for core in self._damaged().values():
            for replica in core.replicas.values():
                try:
                    scan(replica.log)
                except CorruptLogError as error:
                    core.damaged(replica, error)
                    found = True
        return found

    def restart_damaged(self) -> None:
        """A log that was found damaged is offline, and repaired at the next start: what its
        `status` has somebody do."""
        for id, core in self._damaged().items():
            if any(replica.offline for replica in core.replicas.values()):
                self.cluster.kill(id)
                self.cluster.start(id)

    def scan(
        self, labels: Mapping[TopicPartition, TopicPartition], *, keeps_tombstones: bool
    ) -> None:
        """All that each replica of each partition holds goes into the history, under its label
        there."""
        controller = self._core(COORDINATOR)
        for tp, label in labels.items():
            state = controller.image.partition(tp)
            self.learn(label, state.topic_id)
            truth = self.watch.ledger.partition(state.topic_id, tp).compacted
            for id in state.replicas:
                log = self._core(id).replicas[tp].log
                records = scan(log)
                values = [(r.offset, r.value) for r in records if r.value is not None]
                self.history.logs.setdefault(label, {})[id] = values
                if truth is not None:
                    left = [record_seen(record) for record in records]
                    start = self.watch.deletions.start(state.topic_id, tp.partition)
                    truth.check_last(
                        left, f"{tp} on broker {id}", is_strict=keeps_tombstones, start=start
                    )

    def learn(self, label: TopicPartition, topic_id: bytes) -> None:
        """What may be missing of a partition, alive or deleted."""
        truth = self.watch.ledger.partition(topic_id, label)
        if truth.compacted is not None:
            records = truth.compacted.records
            self.history.compacted[label] = {at: each.key or b"" for at, each in records.items()}
        start = self.watch.deletions.start(topic_id, label.partition)
        if start:
            self.history.deleted[label] = start


def scan(log: Any) -> list[Record]:
    """Every record in a log, from its start on."""
    out: list[Record] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = memoryview(log.read_bytes(offset, 1 << 20, log.log_end_offset)[0])
        for position, header in batches(data):
            records = read_records(data[position : position + header.size])
            out += [record for record in records if record.offset >= log.log_start_offset]
            offset = header.last_offset + 1
    return out
