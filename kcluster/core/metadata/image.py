"""The cluster as a replay of metadata records: the same class in the controller and in brokers.

    records --replay--> ClusterImage --records()--> the shortest list that replays to the same

An image only ever changes by `replay`; who needs to know what a batch of records changed asks
`Changes`, which replays and remembers (Kafka's image and delta, KIP-500).
"""

from __future__ import annotations

import msgspec

from kcluster.core.metadata import records as r
from kcluster.core.metadata.quotas import Entity
from kcluster.model import NO_LEADER, TopicPartition


class BrokerImage(msgspec.Struct):
    id: int
    broker_epoch: int
    incarnation: int
    host: str
    port: int
    endpoint: str
    rack: str | None
    is_fenced: bool = True
    is_shutting_down: bool = False


class TopicImage(msgspec.Struct):
    name: str
    id: bytes
    partitions: dict[int, r.PartitionChanged] = msgspec.field(default_factory=dict)
    """By partition index, 0 up without holes."""


TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
BROKER_LOGGER_RESOURCE = 8
CLIENT_METRICS_RESOURCE = 16
GROUP_RESOURCE = 32
"""Kafka's types of things with configs (`ConfigResource.Type`). The last three have none here."""


class ClusterImage:
    """What the cluster is, as of one offset of the metadata log."""

    def __init__(self) -> None:
        self.cluster_id = ""
        self.brokers: dict[int, BrokerImage] = {}
        self.topics: dict[str, TopicImage] = {}
        self.topic_names: dict[bytes, str] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        """Overrides by (resource type, resource name)."""
        self.quotas: dict[Entity, dict[str, float]] = {}
        """By entity and key."""
        self.features: dict[str, int] = {}
        self.next_producer_id = 0
        self.next_offset = 0
        """End (exclusive) of what was replayed; set by whoever replays."""

    def partition(self, tp: TopicPartition) -> r.PartitionChanged | None:
        topic = self.topics.get(tp.topic)
        return topic.partitions.get(tp.partition) if topic is not None else None

    def topic_by_id(self, topic_id: bytes) -> TopicImage | None:
        name = self.topic_names.get(topic_id)
        return self.topics[name] if name is not None else None

    def is_alive(self, broker_id: int) -> bool:
        """Registered and not fenced."""
        broker = self.brokers.get(broker_id)
        return broker is not None and not broker.is_fenced

    def alive(self) -> list[BrokerImage]:
        return [broker for _, broker in sorted(self.brokers.items()) if not broker.is_fenced]

    def overrides(self, resource: int, name: str) -> dict[str, str]:
        return self.configs.get((resource, name), {})

    def replay(self, record: r.Record) -> None:
        """Move by one record. Records about what is not there (any more), or there
        already, change nothing: whatever a log holds, it replays."""
        match record:
            case r.PartitionChanged():
                topic = self.topic_by_id(record.topic_id)
                if topic is not None:
                    topic.partitions[record.partition] = record
            case r.BrokerRegistered():
                self.brokers[record.broker_id] = BrokerImage(
                    record.broker_id,
                    record.broker_epoch,
                    record.incarnation,
                    record.host,
                    record.port,
                    record.endpoint,
                    record.rack,
                )
            case r.BrokerFenced() | r.BrokerUnfenced() | r.BrokerShuttingDown():
                broker = self.brokers.get(record.broker_id)
                if broker is not None and broker.broker_epoch == record.broker_epoch:
                    if isinstance(record, r.BrokerShuttingDown):
                        broker.is_shutting_down = True
                    else:
                        broker.is_fenced = isinstance(record, r.BrokerFenced)
            case r.BrokerUnregistered():
                broker = self.brokers.get(record.broker_id)
                if broker is not None and broker.broker_epoch == record.broker_epoch:
                    del self.brokers[record.broker_id]
            case r.TopicCreated():
                if record.topic in self.topics or record.topic_id in self.topic_names:
                    return
                self.topics[record.topic] = TopicImage(record.topic, record.topic_id)
                self.topic_names[record.topic_id] = record.topic
            case r.TopicDeleted():
                name = self.topic_names.pop(record.topic_id, None)
                if name is not None:
                    del self.topics[name]
                    self.configs.pop((TOPIC_RESOURCE, name), None)
            case r.ConfigChanged():
                overrides = self.configs.setdefault((record.resource, record.name), {})
                if record.value is None:
                    overrides.pop(record.key, None)
                else:
                    overrides[record.key] = record.value
                if not overrides:
                    del self.configs[record.resource, record.name]
            case r.QuotaChanged():
                quotas = self.quotas.setdefault(record.entity, {})
                if record.value is None:
                    quotas.pop(record.key, None)
                else:
                    quotas[record.key] = record.value
                if not quotas:
                    del self.quotas[record.entity]
            case r.ClusterCreated():
                self.cluster_id = record.cluster_id
            case r.ProducerIdsAllocated():
                self.next_producer_id = record.next_producer_id
            case r.FeatureChanged():
                if record.level:
                    self.features[record.name] = record.level
                else:
                    self.features.pop(record.name, None)

    def records(self) -> list[r.Record]:
        """Records that replay to this image, in an order that replays."""
        out: list[r.Record] = [r.ClusterCreated(self.cluster_id)] if self.cluster_id else []
        out += [r.FeatureChanged(name, level) for name, level in sorted(self.features.items())]
        for _, broker in sorted(self.brokers.items()):
            out.append(
                r.BrokerRegistered(
                    broker.id,
                    broker.broker_epoch,
                    broker.incarnation,
                    broker.host,
                    broker.port,
                    broker.endpoint,
                    broker.rack,
                )
            )
            if not broker.is_fenced:
                out.append(r.BrokerUnfenced(broker.id, broker.broker_epoch))
            if broker.is_shutting_down:
                out.append(r.BrokerShuttingDown(broker.id, broker.broker_epoch))
        for name, topic in sorted(self.topics.items()):
            out.append(r.TopicCreated(name, topic.id))
            out += [state for _, state in sorted(topic.partitions.items())]
        for (resource, name), overrides in sorted(self.configs.items()):
            out += [r.ConfigChanged(resource, name, k, v) for k, v in sorted(overrides.items())]
        for entity, quotas in sorted(self.quotas.items(), key=_by_entity):
            out += [r.QuotaChanged(entity, key, value) for key, value in sorted(quotas.items())]
        if self.next_producer_id:
            out.append(r.ProducerIdsAllocated(self.next_producer_id))
        return out


def _by_entity(quotas: tuple[Entity, dict[str, float]]) -> list[tuple[str, bool, str]]:
    return [(kind, name is None, name or "") for kind, name in quotas[0]]


class Changes(msgspec.Struct):
    """What a batch of records changed in an image: names and ids, not values."""

    brokers: set[int] = msgspec.field(default_factory=set)
    partitions: set[tuple[bytes, int]] = msgspec.field(default_factory=set)
    topics_deleted: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    configs: set[tuple[int, str]] = msgspec.field(default_factory=set)
    quotas: bool = False
    """Whether any has changed."""

    def replay(self, image: ClusterImage, records: list[r.Record]) -> None:
        for record in records:
            match record:
                case r.PartitionChanged():
                    self.partitions.add((record.topic_id, record.partition))
                case r.TopicDeleted():
                    name = image.topic_names.get(record.topic_id)
                    if name is not None:
                        self.topics_deleted.append((name, record.topic_id))
                case r.ConfigChanged():
                    self.configs.add((record.resource, record.name))
                case r.QuotaChanged():
                    self.quotas = True
                case (
                    r.BrokerRegistered() | r.BrokerFenced() | r.BrokerUnfenced()
                    | r.BrokerShuttingDown() | r.BrokerUnregistered()
                ):  # fmt: skip
                    self.brokers.add(record.broker_id)
                case _:
                    pass
            image.replay(record)


def leader_of(image: ClusterImage, tp: TopicPartition) -> int:
    state = image.partition(tp)
    return state.leader if state is not None else NO_LEADER
