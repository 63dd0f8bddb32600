"""Rare states that a simulation reached: a fault that never gets anywhere proves nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from kcluster.core import traces as t
from kcluster.core.turn import Event, StoodStill
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.sim.cluster import SimCluster
from kcluster.sim.process import FAILED, STOPPED, Process
from kcluster.sim.watch import Watch
from kcluster.wire import bus
from kcluster.wire.message import Message
from kcluster.wire.messages.fetch import FetchRequest, FetchTopic, PartitionData
from kcluster.wire.messages.list_offsets import ListOffsetsRequest
from kcluster.wire.messages.produce import ProduceRequest
from kcluster.wire.records import read_header

RARE_STATES: Final = {
    "truncation": "a follower cut its log to agree with its leader",
    "truncation below the high watermark": "what a lossy election may ask for",
    "refused ISR change": "the controller did not grant what a leader proposed",
    "fenced broker": "the controller gave up on a broker",
    "fenced leader": "it led something then",
    "election from one candidate": "the ISR had one member left to elect",
    "election from ELR": "the ISR had none, an eligible replica led (KIP-966)",
    "lossy election": "all candidates came back lossy, the longest log led",
    "preferred election": "a partition went back to its preferred leader",
    "lost leader": "a partition had nobody to lead it",
    "crash return": "a broker came back from SIGKILL",
    "clean return": "a broker came back from a controlled shutdown",
    "unclean return": "a broker came back from a power loss",
    "tail cut at recovery": "what a log ended with was torn",
    "damage found": "a log kept its sound part only",
    "checkpoint not used": "a checkpoint or a snapshot of metadata was not whole",
    "bytes refused": "a follower refused what was pushed to it",
    "log offline": "a disk error ended a replica until the next start",
    "process gave up": "a disk error ended a process",
    "segment rolled": "a log went on in another file",
    "segment deleted": "by retention, or below the log start",
    "log compacted": "a compaction was put in place",
    "standing still noticed": "a process went on after a gap longer than a session",
    "controlled shutdown": "a process ended of itself when asked to",
    "message inherited": "what waited for a dead process reached the next one",
    "stale message dropped": "it was meant for another incarnation, or came from one",
    "stream reopened": "a follower opened a stream of a leader epoch again",
    "stream refused": "a leader did not let a follower open a stream",
    "streams diverged": "a leader told a follower where their logs part",
    "image sent again": "a broker that was registered was too far behind for a delta",
    "not enough replicas": "a write was refused before append",
    "not enough replicas after append": "a write was appended, and committed by too few",
    "duplicate answered": "a batch that stood there already was acknowledged",
    "offset not available": "a new leader did not know the high watermark yet",
    "offset out of range": "a reader asked for what is deleted",
    "unsynced coordinator died": "its metadata log had records that were not synced",
    "metadata snapshot loaded": "a coordinator began with a snapshot",
    "group moved": "a partition of __consumer_offsets was loaded by a new leader",
    "group rebalanced": "a generation ended",
    "stray set aside": "a directory that metadata does not know",
    "client throttled": "an answer was more than its client's quota",
    "sent to a follower": "a leader told a consumer of a replica in its rack",
    "read from a follower": "a consumer was given records by a follower",
    "sent back": "a follower was no help to a consumer",
    "fetch withheld": "nothing was given to a consumer over its quota",
    "reassignment complete": "a partition has all the replicas that it was to have",
    "reassignment cancelled": "it goes back to those that it had",
    "replica moved away": "a broker deleted its copy of a partition that others have now",
}
"""What each name stands for. A summary shows those that were never reached, too."""

_TRACES: Final[dict[type, str]] = {
    t.Truncated: "truncation",
    t.IsrRefused: "refused ISR change",
    t.BrokerFenced: "fenced broker",
    t.LogOffline: "log offline",
    t.SegmentRolled: "segment rolled",
    t.SegmentDeleted: "segment deleted",
    t.LogCompacted: "log compacted",
    t.GroupsLoaded: "group moved",
    t.GroupRebalancing: "group rebalanced",
    t.ReassignmentCompleted: "reassignment complete",
    t.ReassignmentCancelled: "reassignment cancelled",
    t.ReplicaMovedAway: "replica moved away",
}
_ELECTIONS: Final = {
    "elr": "election from ELR",
    "lossy": "lossy election",
    "preferred": "preferred election",
    "none": "lost leader",
}
_WARNINGS: Final = {
    "truncated below the high watermark": "truncation below the high watermark",
    "keeps its sound part only": "damage found",
    "is not used": "checkpoint not used",
    "refused what its leader pushed": "bytes refused",
    "is set aside as stray": "stray set aside",
}
_MESSAGES: Final[dict[type, str]] = {
    bus.Refuse: "stream refused",
    bus.Diverge: "streams diverged",
}
_ERRORS: Final = {
    ErrorCode.NOT_ENOUGH_REPLICAS: "not enough replicas",
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "not enough replicas after append",
    ErrorCode.OFFSET_NOT_AVAILABLE: "offset not available",
    ErrorCode.OFFSET_OUT_OF_RANGE: "offset out of range",
}
_RETURNS: Final = {
    "crash": "crash return",
    "clean": "clean return",
    "lossy": "unclean return",
}


class RareStates:
    """Counts, and changes nothing."""

    def __init__(self, cluster: SimCluster, watch: Watch) -> None:
        self.reached: Counter[str] = Counter()
        self._cluster = cluster
        self._watch = watch
        self._streams: set[tuple[int, int, bytes, int, int]] = set()
        self._images: set[tuple[int, int, int]] = set()
        """(broker, incarnation, broker epoch) that were sent one."""
        self._unsure: set[tuple[TopicPartition, int, int, int]] = set()
        """(partition, producer id, epoch, sequence) of batches that were not acknowledged after
        they had been appended."""
        cluster.listeners.append(self._traced)
        cluster.watchers.append(self._turned)
        cluster.ending_hooks.append(self._ending)
        cluster.starting_hooks.append(self._starting)
        cluster.network.senders.append(self._sent)

    def summary(self) -> Counter[str]:
        """By name; what was never reached is missing."""
        counts = self._cluster.network.counts
        out = Counter(self.reached)
        out["message inherited"] = counts.get("inherited", 0)
        out["stale message dropped"] = counts.get("stale", 0)
        return +out

    # --- processes ------------------------------------------------------------------------

    def _starting(self, process: Process) -> None:
        if process.id == COORDINATOR:
            paths = process.disk.files
            self.reached["metadata snapshot loaded"] += any(
                path.startswith("__cluster_metadata-0/") and path.endswith(".checkpoint")
                for path in paths
            )
        elif process.incarnation > len(self._cluster.processes):
            self.reached[_RETURNS[process.restart]] += 1

    def _ending(self, process: Process, reason: str) -> None:
        core: Any = process.core
        if process.id == COORDINATOR and core is not None:
            log = core.log
            self.reached["unsynced coordinator died"] += log.committed_offset < log.end_offset
        if reason.startswith(FAILED):
            self.reached["process gave up"] += 1
        elif reason == STOPPED:
            self.reached["controlled shutdown"] += 1

    def _turned(self, process: Process, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, StoodStill):
                self.reached["standing still noticed"] += 1

    def _traced(self, process: Process, trace: Any) -> None:
        name = _TRACES.get(type(trace))
        if name is not None:
            self.reached[name] += 1
        match trace:
            case t.Elected(topic=topic, partition=partition, source=source):
                if source in _ELECTIONS:
                    self.reached[_ELECTIONS[source]] += 1
                before = self._watch.state(TopicPartition(topic, partition))
                if source == "isr" and before is not None and len(set(before.isr)) <= 2:
                    self.reached["election from one candidate"] += 1
            case t.BrokerFenced(broker_id=id):
                self.reached["fenced leader"] += self._watch.leads(id)
            case t.LogRecovered(cut_bytes=cut) if cut:
                self.reached["tail cut at recovery"] += 1
            case t.Warned(text=text):
                for part, name in _WARNINGS.items():
                    self.reached[name] += part in text

    def _sent(self, source: int, target: int, message: bus.Message) -> None:
        name = _MESSAGES.get(type(message))
        if name is not None:
            self.reached[name] += 1
        elif isinstance(message, bus.Open):
            incarnation = self._cluster.processes[source].incarnation
            for entry in message.entries:
                key = source, incarnation, entry.topic_id, entry.partition, entry.leader_epoch
                self.reached["stream reopened"] += key in self._streams
                self._streams.add(key)
        elif isinstance(message, bus.Registered):
            key_of_image = target, message.incarnation, message.broker_epoch
            self.reached["image sent again"] += key_of_image in self._images
            self._images.add(key_of_image)

    # --- clients --------------------------------------------------------------------------

    def answered(self, broker: int, request: Message, response: Any) -> None:
        """A reply leaves a broker."""
        if getattr(response, "throttle_time_ms", 0):
            self.reached["client throttled"] += 1
            is_empty = isinstance(request, FetchRequest) and not response.responses
            self.reached["fetch withheld"] += is_empty
        if isinstance(request, ProduceRequest):
            topic = request.topic_data[0]
            partition = topic.partition_data[0]
            told = response.responses[0].partition_responses[0]
            self._produced(
                broker, TopicPartition(topic.name, partition.index), partition.records, told
            )
        elif isinstance(request, FetchRequest):
            for asked, answer in zip(request.topics, response.responses, strict=False):
                self._told(answer.partitions[0].error_code)
                self._read(broker, asked, answer.partitions[0])
        elif isinstance(request, ListOffsetsRequest):
            self._told(response.topics[0].partitions[0].error_code)

    def _read(self, broker: int, wanted: FetchTopic, told: PartitionData) -> None:
        self.reached["sent to a follower"] += told.preferred_read_replica >= 0
        core: Any = self._cluster.processes[broker].core
        name = wanted.topic or core.image.topic_names.get(wanted.topic_id, "")
        replica = core.replicas.get(TopicPartition(name, wanted.partitions[0].partition))
        if replica is not None and replica.follower is not None:
            self.reached["read from a follower"] += bool(told.records)
            self.reached["sent back"] += told.error_code == ErrorCode.OFFSET_NOT_AVAILABLE

    def _told(self, error: int) -> None:
        name = _ERRORS.get(ErrorCode(error)) if error else None
        if name is not None:
            self.reached[name] += 1

    def _produced(self, broker: int, tp: TopicPartition, records: Any, told: Any) -> None:
        self._told(told.error_code)
        if records is None:
            return
        header = read_header(memoryview(records))
        if header.producer_id < 0:
            return
        key = tp, header.producer_id, header.producer_epoch, header.base_sequence
        if told.error_code in (
            ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode.REQUEST_TIMED_OUT,
        ):
            self._unsure.add(key)
        elif told.error_code == ErrorCode.NONE and (
            key in self._unsure or self._watch.is_of_earlier_epoch(broker, tp, told.base_offset)
        ):
            self.reached["duplicate answered"] += 1
