"""Valid inputs for each target, made by our own encoders: where a search begins.

They are made anew each time, so that they never fall behind the formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import msgspec

from kcluster.core.groups.offsets import Committed
from kcluster.core.groups.records import offset_record
from kcluster.core.log.leader_epochs import FILE_NAME as EPOCHS_FILE
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.partition_metadata import format_metadata
from kcluster.core.log.segment import INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name
from kcluster.core.metadata import records as r
from kcluster.core.metadata.segments import encode_batch
from kcluster.model import TopicPartition
from kcluster.wire import bus, consumer_protocol, control, group_records, telling
from kcluster.wire.apis import APIS
from kcluster.wire.compression import Compression, compress
from kcluster.wire.frame import request_frame
from kcluster.wire.message import encode, valid_versions
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from kcluster.wire.record_walk import empty_batch
from kcluster.wire.records import BatchBuilder, Record, build_batch
from tests.core.broker.stage import fetch, produce
from tests.core.log.bench import DIRECTORY, WALL_MS, Bench, batch
from tests.fuzz.inputs import Writer
from tests.fuzz.log_targets import CONFIG
from tests.wire.samples import sample

Seeds = Iterator[bytes]

KEYS: Final = sorted(APIS)
RECORDS: Final = [
    Record(b"value", b"key", timestamp=WALL_MS),
    Record(None, b"key", (("name", b"x"), ("other", None)), WALL_MS + 5),
    Record(b"long" * 40, b"another key", timestamp=WALL_MS + 1),
]
METADATA: Final[list[r.Record]] = [
    r.ClusterCreated("6P6CY3pUSu6T6WYE-dc5fQ"),
    r.BrokerRegistered(1, 2, 7, "127.0.0.1", 9092, "ipc://1", "rack"),
    r.BrokerUnfenced(1, 2),
    r.BrokerShuttingDown(1, 2),
    r.TopicCreated("orders", bytes(range(16))),
    r.PartitionChanged(bytes(range(16)), 0, [1, 2], [1], 1, 3, 4, elr=[2]),
    r.ConfigChanged(2, "orders", "retention.ms", "1000"),
    r.ConfigChanged(2, "orders", "retention.ms", None),
    r.ProducerIdsAllocated(1000),
    r.FeatureChanged("metadata.version", 20),
    r.BrokerFenced(1, 2),
    r.BrokerUnregistered(1, 2),
    r.TopicDeleted(bytes(range(16))),
]


def request_header() -> Seeds:
    for key in KEYS:
        api = APIS[key]
        for version in sorted({api.versions.low, api.versions.high}):
            yield b"".join(map(bytes, request_frame(api.request(), version, 7, "client")))[4:]


def messages() -> Seeds:
    random = Random(1)
    for number, key in enumerate(KEYS):
        for bit, cls in ((0, APIS[key].request), (0x80, APIS[key].response)):
            low, high = valid_versions(cls)
            for version in sorted({low, high}):
                body = encode(sample(cls, version, random), version)
                yield Writer().number(number).number(bit | version - low).rest(body[:3000])


def record_batches() -> Iterator[bytes]:
    for compression in Compression:
        yield bytes(build_batch(RECORDS, compression=compression))
    yield bytes(build_batch(RECORDS[:2], producer_id=5, producer_epoch=0, base_sequence=2**31 - 1))
    yield bytes(batch(1))
    yield empty_batch(0, 4, 0, WALL_MS)
    yield far_in_the_future()


def far_in_the_future() -> bytes:
    """A batch whose second record has a timestamp that no field can carry, while its header says
    nothing of it."""
    builder = BatchBuilder()
    builder.append(WALL_MS, b"key", b"value")
    builder.append(WALL_MS + (1 << 63) - 1, b"key", b"value")
    builder.max_timestamp = WALL_MS + 1
    return bytes(builder.build())


def record_batch() -> Seeds:
    for data in record_batches():
        for choice in (0, 1):
            yield Writer().number(choice).rest(data)


def compressed() -> Seeds:
    random = Random(2)
    for plain in (b"", bytes(3000), random.randbytes(300), b"abcabcabd" * 60):
        for codec in Compression:
            yield Writer().number(codec).rest(bytes(compress(plain, codec)))


BUS: Final[list[bus.Message]] = [
    bus.Announce([bus.ProcessState(1, 2, "ipc://1", 99, "running")]),
    bus.Died(1, 2),
    bus.Stop(True),
    bus.Bound(1, 2, "ipc://1"),
    bus.Failed(1, 2, "why"),
    bus.CompactionEnded(1, -9),
    bus.Register(1, 2, "h", 9092, "ipc://1", "lossy", [bus.LogEnd(bytes(16), 0, 1, 2)], "rack"),
    bus.Registered(2, 3, 4),
    bus.MetadataDelta(1, 2),
    bus.Heartbeat(1, 2, 3, True),
    bus.HeartbeatReply(1, 2, False),
    bus.AlterPartition(1, 2, [bus.IsrChange(bytes(16), 0, 1, 2, [1, 2], [5, 6])]),
    bus.PartitionAltered(1, [bus.IsrOutcome(bytes(16), 0, 0, 1, 2, [1])]),
    bus.ProducerIdBlock(1, 0, 1000),
    bus.Forward(1, 19, 7, None, 1000),
    bus.LogDirFailed(1, [(bytes(16), 0)]),
    bus.Open([bus.OpenEntry(bytes(16), 0, 1, 2, 3, 4, 5)]),
    bus.Diverge([bus.DivergeEntry(1, 2, 3)]),
    bus.Refuse([bus.RefuseEntry(1, 6)]),
    bus.Push([bus.PushEntry(1, 2, 3, 4, 5)]),
    bus.Ack([bus.AckEntry(1, 2, 3, 4)]),
    telling.Replicas(1, 2, 3, [telling.ReplicaState("t", 0, "leader", 1, 0, 9, 9, 70, [(0, 70)])]),
    telling.Image(1, 2),
]


def bus_message() -> Seeds:
    for message in BUS:
        yield Writer().number(0).rest(bus.encode(bus.Envelope(1, 2, 3, 4, message)))
    yield Writer().number(2).rest(msgspec.msgpack.encode(control.Asked(1, control.Kill([1, 2]))))
    yield Writer().number(3).rest(r.encode_all(METADATA))
    for record in METADATA:
        yield Writer().number(3).rest(r.encode_all([METADATA[4], record]))


def group_record() -> Seeds:
    random = Random(3)
    key = group_records.encode_key(group_records.GroupMetadataKey("g"))
    values = [sample(group_records.GroupMetadataValue, version, random) for version in range(4)]
    for value in values:
        yield (
            Writer().number(0).part(key).part(group_records.encode_value(value)[:2000]).rest(b"")
        )
    committed = offset_record("g", ("orders", 1), Committed(5, 1, "m", WALL_MS, -1, 0), WALL_MS)
    expiring = offset_record("g", ("orders", 1), Committed(6, 1, "", 1, 9, 0), WALL_MS)
    writer = Writer().number(3)
    for record in (committed, expiring):
        writer.part(record.key or b"").part(record.value or b"")
    yield writer.part(key).part(b"").part(committed.key or b"").part(b"").rest(b"")


def consumer_metadata() -> Seeds:
    owned = [TopicPartition("orders", 1), TopicPartition("other", 0)]
    wanted = consumer_protocol.Subscription(["orders", "other"], owned, 3)
    yield consumer_protocol.encode_subscription(wanted)
    yield consumer_protocol.encode_assignment(owned)
    random = Random(4)
    for cls in (
        consumer_protocol.ConsumerProtocolSubscription,
        consumer_protocol.ConsumerProtocolAssignment,
    ):
        for version in range(4):
            yield version.to_bytes(2, "big") + encode(sample(cls, version, random), version)[:2000]


def _written_partition() -> dict[str, bytes]:
    """Files of two segments, of two epochs, with a producer's snapshot."""
    bench = Bench(CONFIG)
    for n in range(4):
        bench.produce(batch(2, producer_id=7, producer_epoch=0, base_sequence=2 * n), n // 2)
    bench.log.roll(bench.turn)
    bench.produce(bytearray(build_batch(RECORDS, compression=Compression.GZIP)), 3)
    bench.produce(batch(1, size=300, producer_id=7, producer_epoch=0, base_sequence=8), 3)
    bench.commit()
    bench.shut_down()
    prefix = DIRECTORY + "/"
    return {
        path.removeprefix(prefix): bytes(file.data)
        for path, file in bench.disk.files.items()
        if path.startswith(prefix)
    }


def partition() -> Seeds:
    files = _written_partition()
    second = [file_name(8, suffix) for suffix in (LOG, INDEX, TIME_INDEX)]
    first = [file_name(0, suffix) for suffix in (LOG, INDEX, TIME_INDEX)]
    small = [EPOCHS_FILE, file_name(8, SNAPSHOT)]
    for how in (0, 1, 2, 8, 9, 12):
        for recovery_point, log_start in ((0, 0), (8, 0), (12, 3), (4, 8)):
            for names, bit in ((first + small, 0), (first + second + small, 16)):
                writer = Writer().number(how | bit).number(255)
                writer.number(recovery_point).number(log_start).number(8).number(8)
                for name in names:
                    writer.part(files[name])
                yield writer.rest(b"")


def pushed() -> Seeds:
    data = b"".join(
        bytes(batch(2, base_offset=2 * n, leader_epoch=n // 2, producer_id=3, producer_epoch=0,
                    base_sequence=2 * n))
        for n in range(4)
    )  # fmt: skip
    yield Writer().number(0).rest(data)
    yield Writer().number(1).rest(data + empty_batch(8, 11, 2, WALL_MS))


def small_file() -> Seeds:
    epochs = LeaderEpochs()
    epochs.assign(0, 0)
    epochs.assign(3, 1200)
    yield Writer().number(0).rest(epochs.encode())
    yield Writer().number(1).rest(b"0\n2\norders 0 1200\norders 1 37\n")
    yield Writer().number(2).rest(format_metadata(bytes(range(16))))
    yield Writer().number(3).rest(_written_partition()[file_name(8, SNAPSHOT)])


def metadata() -> Seeds:
    first = bytes(encode_batch(METADATA[:4], 0, 1, 0, WALL_MS))
    second = bytes(encode_batch(METADATA[4:8], 4, 1, 4, WALL_MS))
    third = bytes(encode_batch(METADATA[8:], 8, 2, 8, WALL_MS))
    short = r.encode_all(METADATA[:4])
    for how, base_offset, snapshot_offset, logs in (
        (1, 0, 0, (first + second + third, b"")),
        (9, 0, 0, (first + second + third, b"")),
        (11, 8, 0, (first + second, third)),
        (29, 0, 4, (first + second + third, b"")),
        (30, 4, 4, (b"", second + third)),
        (29, 0, 200, (first + second, b"")),
    ):
        writer = Writer().number(how).number(base_offset).number(snapshot_offset)
        for log in logs:
            writer.part(log)
        yield writer.part(short).rest(b"")


def broker() -> Seeds:
    random = Random(5)
    for number, key in enumerate(KEYS):
        api = APIS[key]
        for version in sorted({api.versions.low, api.versions.high}):
            body = encode(sample(api.request, version, random), version)[:2000]
            writer = Writer().number(0).number(number).number(version - api.versions.low)
            yield writer.part(body).rest(b"")
    times = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name="orders",
                partitions=[ListOffsetsPartition(timestamp=at) for at in (-1, -2, -3, WALL_MS + 1)],
            )
        ],
    )
    for kind in (0, 1):
        for data in record_batches():
            writer = Writer().number(kind)
            for api, version, request in (
                (0, 9, produce(data=data)),
                (2, 7, times),
                (1, 4, fetch(0)),
                (0, 3, produce(data=data)),
            ):
                writer.number(KEYS.index(api)).number(version - APIS[api].versions.low)
                writer.part(encode(request, version))
            yield writer.rest(b"")


SEEDS: Final[dict[str, Callable[[], Seeds]]] = {
    "request_header": request_header,
    "messages": messages,
    "record_batch": record_batch,
    "compressed": compressed,
    "bus_message": bus_message,
    "group_record": group_record,
    "consumer_metadata": consumer_metadata,
    "partition": partition,
    "pushed": pushed,
    "small_file": small_file,
    "metadata": metadata,
    "broker": broker,
}
