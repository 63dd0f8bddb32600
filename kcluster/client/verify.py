"""Looking at a cluster's files, running or not: what `kcluster verify` does.

    each replica    CRC, offsets and epochs of every batch, indexes, caches (see `verify_log`)
    all in sync     the same bytes below the high watermark; those of a compacted topic, which
                    each broker compacts by itself, record by record
    coordinator     its metadata log and snapshots

On a running cluster only what brokers have told is looked at: the tail behind that moves. A
partition that seems damaged is looked at again, from new marks, because retention, compaction or a
truncation may have changed its files meanwhile; damage stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from kcluster.client.verify_log import Damage, Place, ReadOnlyFiles, Replica, check_log
from kcluster.core.log import checkpoints
from kcluster.core.metadata.image import TOPIC_RESOURCE, ClusterImage, TopicImage
from kcluster.core.metadata.metadata_log import DIRECTORY, MetadataLog
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.turn import Turn
from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.records import Record, read_records
from kcluster.wire.telling import ReplicaState

T = TypeVar("T")
Records = dict[int, tuple[Record, Place]]
"""By offset, of one replica."""

SCHEMA: Final = 1

LOOKS: Final = 3
"""At a partition that seems damaged while its brokers run."""


class Report(msgspec.Struct):
    """What `kcluster verify -o json` prints."""

    schema: int
    name: str
    is_running: bool
    partitions: int = 0
    replicas: int = 0
    segments: int = 0
    batches: int = 0
    bytes: int = 0
    damage: list[Damage] = []
    notes: list[str] = []
    """Worth knowing, and no damage: torn tails that a start cuts off, replicas behind."""


class Cluster(msgspec.Struct):
    """What is to be looked at. `marks()` asks the running brokers anew: {broker: {(topic,
    partition): state}}; None when nobody runs."""

    name: str
    directory: Path
    brokers: list[int]
    image: ClusterImage
    marks: Callable[[], dict[int, dict[tuple[str, int], ReplicaState]]] | None = None

    def data_dir(self, broker: int) -> Path:
        return self.directory / f"broker-{broker}"


def read_metadata(directory: Path) -> ClusterImage:
    """The image as a stopped coordinator left it. Raises CorruptLogError."""
    return MetadataLog(ReadOnlyFiles(directory), 0).load(Turn())


def verify(cluster: Cluster, progress: Callable[[str, int, int], None] | None = None) -> Report:
    """`progress(partition, done bytes, all bytes)`."""
    report = Report(SCHEMA, cluster.name, cluster.marks is not None)
    _check_coordinator(cluster, report)
    watermarks = _check_checkpoints(cluster, report)
    todo = [
        (topic, state)
        for _, topic in sorted(cluster.image.topics.items())
        for _, state in sorted(topic.partitions.items())
    ]
    total = sum(path.stat().st_size for path in cluster.directory.glob("broker-*/*/*.log"))
    for topic, state in todo:
        tp = TopicPartition(topic.name, state.partition)
        if progress is not None:
            progress(str(tp), report.bytes, total)
        seen: list[Replica] = []
        batches = 0
        suspected: set[Damage] = set()
        for look in range(LOOKS if cluster.marks is not None else 1):
            seen, high_watermark = _replicas(cluster, topic, state, watermarks)
            batches = _check_partition(cluster, topic, seen, high_watermark)
            found = {damage for replica in seen for damage in replica.found}
            suspected = found if not look else suspected & found
            if not suspected:
                break
        report.partitions += 1
        report.replicas += len(seen)
        report.batches += batches
        report.segments += sum(replica.segments for replica in seen)
        report.bytes += sum(replica.size for replica in seen)
        report.damage += sorted(suspected)
        report.notes += [note for replica in seen for note in replica.notes]
    if progress is not None:
        progress("", total, total)
    return report


def _replicas(
    cluster: Cluster,
    topic: TopicImage,
    state: PartitionChanged,
    watermarks: dict[int, dict[TopicPartition, int]],
) -> tuple[list[Replica], int]:
    """Those that can be looked at, and the offset below which they must agree."""
    tp = TopicPartition(topic.name, state.partition)
    told = cluster.marks() if cluster.marks is not None else {}
    found, marks = [], []
    for broker in state.replicas:
        own = told.get(broker, {}).get((tp.topic, tp.partition))
        if own is not None and own.role == "offline":
            continue
        is_in_sync = broker in state.isr if own is None else own.is_in_sync
        end = own.log_end_offset if own is not None else -1
        if own is not None:
            marks.append(own.high_watermark)
        elif tp in watermarks.get(broker, {}):
            marks.append(watermarks[broker][tp])
        name = cluster.data_dir(broker).name
        found.append(Replica(tp, broker, cluster.data_dir(broker), name, topic.id, is_in_sync, end))
    # Brokers answer one after the other: a follower may have had less when it was asked.
    ends = [replica.end for replica in found if replica.is_in_sync and replica.is_moving]
    return found, min([max(marks, default=0), *ends])


def _check_partition(
    cluster: Cluster, topic: TopicImage, replicas: list[Replica], high_watermark: int
) -> int:
    """Batches that were looked at."""
    policy = cluster.image.overrides(TOPIC_RESOURCE, topic.name).get("cleanup.policy", "")
    if "compact" in policy or topic.name.startswith("__"):
        return _compare_records(replicas, high_watermark)
    return _compare_bytes(replicas, high_watermark)


# --- byte by byte -------------------------------------------------------------------------


def _compare_bytes(replicas: list[Replica], high_watermark: int) -> int:
    """All replicas side by side, a batch at a time. What most of those in sync hold is what the
    others are held against; who begins later (retention) joins there."""
    walks = {replica.broker: check_log(replica) for replica in replicas}
    heads: dict[int, Place | None] = {id: next(walk, None) for id, walk in walks.items()}
    by_id = {replica.broker: replica for replica in replicas}
    ends = {id: head.header[0] if head is not None else 0 for id, head in heads.items()}
    batches = 0
    differs: set[int] = set()
    while any(head is not None for head in heads.values()):
        offset = min(head.header[0] for head in heads.values() if head is not None)
        here = {id: h for id, h in heads.items() if h is not None and h.header[0] == offset}
        held: dict[int, bytes] = {}
        for id, place in here.items():
            replica = by_id[id]
            batches += 1
            ends[id] = offset + place.header[6] + 1
            if id not in differs and replica.is_in_sync and ends[id] <= high_watermark:
                files = ReadOnlyFiles(replica.data_dir)
                held[id] = files.read(place.path, place.position, place.size)
            heads[id] = next(walks[id], None)
        most = _most_agreed(held, lambda one, other: one == other)
        for id, data in held.items():
            if data != held[most]:
                at = here[id].position + _first_difference(data, held[most])
                by_id[id].add(here[id].path, f"differs from broker {most}", offset, at)
                differs.add(id)
    _check_ends(replicas, ends, high_watermark, differs)
    return batches


def _most_agreed(held: dict[int, T], agree: Callable[[T, T], bool]) -> int:
    """The broker whose copy most of all have, the first of them; -1 when there is none."""
    return max(
        held,
        key=lambda broker: sum(agree(held[broker], other) for other in held.values()),
        default=-1,
    )


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _check_ends(
    replicas: list[Replica], ends: dict[int, int], high_watermark: int, differs: set[int]
) -> None:
    for replica in replicas:
        end = ends.get(replica.broker, 0)
        if replica.found or replica.broker in differs:
            continue
        if end < high_watermark and replica.is_in_sync and not replica.is_moving:
            replica.add(str(replica.tp), f"ends at {end}, was committed to {high_watermark}", end)
        elif end < high_watermark and not replica.is_in_sync:
            replica.notes.append(
                f"{replica.name}/{replica.tp}: not in sync, ends at {end} of {high_watermark}"
            )


# --- record by record ---------------------------------------------------------------------


def _compare_records(replicas: list[Replica], high_watermark: int) -> int:
    """What is at the same offset must be the same, and the last record of each key below the
    high watermark must be there, tombstones excepted: these go by each broker's own clock."""
    batches = 0
    ends: dict[int, int] = {}
    logs: dict[int, Records] = {}
    for replica in replicas:
        records: Records = {}
        files = ReadOnlyFiles(replica.data_dir)
        for place in check_log(replica):
            batches += 1
            ends[replica.broker] = place.header[0] + place.header[6] + 1
            for record in _records_at(replica, files, place):
                if record.offset < high_watermark:
                    records[record.offset] = record, place
        if replica.is_in_sync and not replica.found:
            logs[replica.broker] = records
    by_id = {replica.broker: replica for replica in replicas}
    most = _most_agreed(logs, lambda one, other: _difference(one, other) is None)
    for id, mine in logs.items():
        if (found := _difference(mine, logs[most])) is not None:
            what, offset = found
            path, position = str(by_id[id].tp), -1
            if offset in mine:
                path, position = mine[offset][1].path, mine[offset][1].position
            by_id[id].add(path, f"{what} broker {most}", offset, position)
    _check_ends(replicas, ends, high_watermark, set())
    return batches


def _difference(mine: Records, theirs: Records) -> tuple[str, int] | None:
    """What is said of the first one, up to the other's broker, and the offset."""
    for offset in sorted(mine.keys() & theirs.keys()):
        if mine[offset][0] != theirs[offset][0]:
            return "differs from", offset
    last, their_last = _last_of_keys(mine.values()), _last_of_keys(theirs.values())
    for key in last.keys() | their_last.keys():
        if last.get(key) != their_last.get(key):
            offset = max(last.get(key, -1), their_last.get(key, -1))
            return f"the last record of key {key!r} is not the one of", offset
    return None


def _last_of_keys(records: Iterable[tuple[Record, Place]]) -> dict[bytes | None, int]:
    last: dict[bytes | None, int] = {}
    for record, _ in records:
        last[record.key] = record.offset
        if record.value is None:
            del last[record.key]
    return last


def _records_at(replica: Replica, files: ReadOnlyFiles, place: Place) -> Iterator[Record]:
    try:
        yield from read_records(files.read(place.path, place.position, place.size))
    except RemoteProtocolError as error:
        replica.add(place.path, str(error), place.header[0], place.position)


# --- the rest -----------------------------------------------------------------------------


def _check_coordinator(cluster: Cluster, report: Report) -> None:
    turn = Turn()
    try:
        MetadataLog(ReadOnlyFiles(cluster.directory / "coordinator"), 0).load(turn)
    except CorruptLogError as error:
        report.damage.append(Damage("", -1, 0, f"coordinator/{DIRECTORY}", str(error)))
    if cluster.marks is None:
        report.notes += [f"coordinator: {trace.text}" for trace in turn.traces]


def _check_checkpoints(cluster: Cluster, report: Report) -> dict[int, dict[TopicPartition, int]]:
    """High watermarks by broker."""
    watermarks: dict[int, dict[TopicPartition, int]] = {}
    for broker in cluster.brokers:
        directory = cluster.data_dir(broker)
        for name in (
            checkpoints.RECOVERY_POINTS, checkpoints.HIGH_WATERMARKS, checkpoints.LOG_STARTS,
            checkpoints.FIRST_DIRTY,
        ):  # fmt: skip
            try:
                data = ReadOnlyFiles(directory).read(name, 0, 64 << 20)
                offsets = checkpoints.parse_offsets(data)
            except CorruptLogError as error:
                path = f"{directory.name}/{name}"
                report.damage.append(Damage("", -1, broker, path, str(error)))
                continue
            if name == checkpoints.HIGH_WATERMARKS:
                watermarks[broker] = offsets
        strays = [path.name for path in directory.glob("*-stray")]
        report.notes += [f"{directory.name}/{name} was set aside" for name in strays]
    return watermarks
