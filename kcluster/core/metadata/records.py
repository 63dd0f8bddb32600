"""The metadata log's records: the only thing that changes what the cluster is.

Each is the value of one record in the metadata log, as MessagePack with its kind as tag. Fields
are only ever added, with defaults. Modelled after KRaft's metadata records (KIP-500, KIP-631,
KIP-966), where a name says the same it means the same.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


class ClusterCreated(msgspec.Struct, frozen=True, tag=True):
    """First record of the log. `cluster_id` is 22 characters of base64."""

    cluster_id: str


class BrokerRegistered(msgspec.Struct, frozen=True, tag=True):
    """A new incarnation, fenced until it is unfenced. The broker epoch is this record's offset."""

    broker_id: int
    broker_epoch: int
    incarnation: int
    host: str
    port: int
    endpoint: str
    rack: str | None = None


class BrokerFenced(msgspec.Struct, frozen=True, tag=True):
    """Leads nothing, is in no ISR and takes no replicas, until it is unfenced."""

    broker_id: int
    broker_epoch: int


class BrokerUnfenced(msgspec.Struct, frozen=True, tag=True):
    broker_id: int
    broker_epoch: int


class BrokerShuttingDown(msgspec.Struct, frozen=True, tag=True):
    """Controlled shutdown: its leaderships move away; it keeps being served until fenced."""

    broker_id: int
    broker_epoch: int


class BrokerUnregistered(msgspec.Struct, frozen=True, tag=True):
    """Forgotten: it was fenced and holds no replica. Should it come back, it registers anew."""

    broker_id: int
    broker_epoch: int


class TopicCreated(msgspec.Struct, frozen=True, tag=True):
    topic: str
    topic_id: bytes


class TopicDeleted(msgspec.Struct, frozen=True, tag=True):
    """With all its partitions and configs. The id is never given again."""

    topic_id: bytes


class PartitionChanged(msgspec.Struct, frozen=True, tag=True):
    """The whole state of a partition, new or changed: the last one counts.

    Invariants: isr and elr are subsets of replicas and disjoint; leader is in isr, or -1 and
    then isr may be empty; leader_epoch rises with every new leader, partition_epoch with
    every change.
    """

    topic_id: bytes
    partition: int
    replicas: list[int]
    """Assignment, the preferred leader first. While it is reassigned: target, then `removing`."""
    isr: list[int]
    leader: int
    leader_epoch: int
    partition_epoch: int
    elr: list[int] = []
    """Eligible leader replicas (KIP-966): not in sync, known to hold all that is committed."""
    last_known_leader: int = -1
    """Kept when isr and elr have run empty."""
    recovering: bool = False
    """The leader was elected although data may be missing; status says so."""
    last_known_elr: list[int] = []
    """Replicas that were in sync or eligible and lost that trust by a lossy restart (KIP-966);
    empty again once the ISR is large enough. Disjoint from isr and elr."""
    adding: list[int] = []
    """Replicas that a reassignment brings, until it is complete (KIP-455)."""
    removing: list[int] = []
    """Replicas that it takes away once it is complete."""

    @property
    def is_reassigning(self) -> bool:
        return bool(self.adding or self.removing)

    @property
    def target(self) -> list[int]:
        """The replicas that it is to have; all of them while nothing is reassigned."""
        return [id for id in self.replicas if id not in self.removing]


class ConfigChanged(msgspec.Struct, frozen=True, tag=True):
    """`value` None removes the override. `resource` is Kafka's type: 2 topic, 4 broker ("" =
    the default of all brokers)."""

    resource: int
    name: str
    key: str
    value: str | None


class QuotaChanged(msgspec.Struct, frozen=True, tag=True):
    """`entity`: (type, name) pairs by type, see `quotas.py`. `value` None removes the quota."""

    entity: tuple[tuple[str, str | None], ...]
    key: str
    value: float | None


class ProducerIdsAllocated(msgspec.Struct, frozen=True, tag=True):
    next_producer_id: int


class FeatureChanged(msgspec.Struct, frozen=True, tag=True):
    """`level` 0: it is not used any more."""

    name: str
    level: int


Record = (
    ClusterCreated
    | BrokerRegistered
    | BrokerFenced
    | BrokerUnfenced
    | BrokerShuttingDown
    | BrokerUnregistered
    | TopicCreated
    | TopicDeleted
    | PartitionChanged
    | ConfigChanged
    | QuotaChanged
    | ProducerIdsAllocated
    | FeatureChanged
)

_encoder = msgspec.msgpack.Encoder()
_record_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_records_decoder: msgspec.msgpack.Decoder[list[Record]] = msgspec.msgpack.Decoder(list[Record])


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def decode(value: bytes | memoryview) -> Record:
    """Raises msgspec.DecodeError on anything else."""
    return _decoded(_record_decoder, value)


def encode_all(records: list[Record]) -> bytes:
    """The payload of `Registered`, `MetadataDelta` and `Image`."""
    return _encoder.encode(records)


def decode_all(payload: bytes | bytearray | memoryview) -> list[Record]:
    """Raises msgspec.DecodeError on anything else."""
    return _decoded(_records_decoder, payload)


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes | bytearray | memoryview) -> T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        # Of a string, or of values in values: msgspec lets these two through as they are.
        raise msgspec.DecodeError(str(error)) from None
