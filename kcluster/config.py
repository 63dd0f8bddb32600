"""Every knob, once: its name, type, default, bounds, and whether we honour it.

Names, types and defaults are Kafka's (4.3); what a laptop wants otherwise says so beside it.
A config that Kafka knows and we do not honour yet is refused with the reason, never taken
silently: `honoured` is False and `reason` is what the refusal says. Its default still shows in
DescribeConfigs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from kcluster.errors import ApiError, ErrorCode

LEADER_SELECTOR: Final = "org.apache.kafka.common.replica.LeaderSelector"
RACK_AWARE_SELECTOR: Final = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
"""Values of `replica.selector.class`, by Kafka's names (KIP-392)."""

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1


class Kind(enum.Enum):
    """The wire's types of DescribeConfigs (KIP-569), by their numbers."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Knob(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    default: str
    doc: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    """What is allowed; for a LIST each element."""
    may_be_empty: bool = False
    """A LIST of choices that may name none of them."""
    is_dynamic: bool = True
    """May be changed while running; otherwise only at start (`-X`)."""
    honoured: bool = True
    reason: str = ""
    synonym: str = ""
    """A topic's knob: the broker knob that gives its default."""
    has_places: bool = False
    """A LIST of replicas, PARTITION:BROKER each, or *."""

    def check(self, value: str) -> str | None:
        """Why `value` is not allowed, or None. Also for knobs not honoured: then the reason,
        unless the value is the default."""
        problem = self._parse_problem(value)
        if problem is not None:
            return problem
        if not self.honoured and value != self.default:
            return self.reason
        return None

    def _parse_problem(self, value: str) -> str | None:
        match self.kind:
            case Kind.BOOLEAN:
                if value.lower() not in ("true", "false"):
                    return f"{self.name} must be true or false, not {value!r}"
            case Kind.INT | Kind.SHORT | Kind.LONG | Kind.DOUBLE:
                try:
                    number = float(value) if self.kind is Kind.DOUBLE else int(value)
                except ValueError:
                    return f"{self.name} must be a number, not {value!r}"
                low = self.low if self.low is not None else _LOWEST.get(self.kind)
                high = self.high if self.high is not None else _HIGHEST.get(self.kind)
                if low is not None and number < low:
                    return f"{self.name} must be at least {low:g}, not {value}"
                if high is not None and number > high:
                    return f"{self.name} must be at most {high:g}, not {value}"
            case Kind.LIST if self.has_places:
                for item in throttled_replicas(value):
                    partition, _, broker = item.partition(":")
                    if item != "*" and not (partition.isdecimal() and broker.isdecimal()):
                        return f"{self.name} takes PARTITION:BROKER,.. or *, not {item!r}"
            case Kind.LIST:
                if self.choices and not (self.may_be_empty and not value.strip()):
                    for item in value.split(","):
                        if item.strip() not in self.choices:
                            return f"{self.name} takes {', '.join(self.choices)}, not {item!r}"
            case Kind.STRING:
                if self.choices and value not in self.choices:
                    known = ", ".join(filter(None, self.choices))
                    return f"{self.name} must be one of {known}, not {value!r}"
        return None


_LOWEST: Final = {Kind.INT: -(2**31), Kind.SHORT: -(2**15), Kind.LONG: -(2**63)}
_HIGHEST: Final = {Kind.INT: INT_MAX, Kind.SHORT: 2**15 - 1, Kind.LONG: LONG_MAX}

_LATER = "{} is not supported by kcluster yet"


def _table(*knobs: Knob) -> dict[str, Knob]:
    return {knob.name: knob for knob in knobs}


def _unhonoured(name: str, kind: Kind, default: str, why: str = "", synonym: str = "") -> Knob:
    reason = why or _LATER.format(name)
    return Knob(name, kind, default, honoured=False, reason=reason, synonym=synonym)


_B, _S, _I, _L, _D, _LIST = (
    Kind.BOOLEAN, Kind.STRING, Kind.INT, Kind.LONG, Kind.DOUBLE, Kind.LIST,
)  # fmt: skip

_TIERED_LATER = "tiered storage is not supported by kcluster"

TOPIC_KNOBS: Final = _table(
    Knob("cleanup.policy", _LIST, "delete", "what happens to old segments; empty: they are kept",
         choices=("delete", "compact"), may_be_empty=True, synonym="log.cleanup.policy"),
    Knob("compression.type", _S, "producer", "codec of stored batches: as the producer sent them",
         choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), honoured=False,
         reason="only compression.type=producer is supported: the broker never recompresses",
         synonym="compression.type"),
    _unhonoured("compression.gzip.level", _I, "-1"),
    _unhonoured("compression.lz4.level", _I, "9"),
    _unhonoured("compression.zstd.level", _I, "3"),
    Knob("delete.retention.ms", _L, "86400000", "how long compaction keeps tombstones", low=0,
         synonym="log.cleaner.delete.retention.ms"),
    Knob("file.delete.delay.ms", _L, "60000", "delay before a deleted file leaves the disk", low=0,
         synonym="log.segment.delete.delay.ms"),
    Knob("flush.messages", _L, str(LONG_MAX), "fsync after so many records", low=1,
         synonym="log.flush.interval.messages"),
    Knob("flush.ms", _L, str(LONG_MAX), "fsync at least so often", low=0,
         synonym="log.flush.interval.ms"),
    Knob("follower.replication.throttled.replicas", _LIST, "", has_places=True,
         doc="PARTITION:BROKER,.. or *: who is filled at follower.replication.throttled.rate"),
    Knob("index.interval.bytes", _I, "4096", "log bytes between two index entries", low=0,
         synonym="log.index.interval.bytes"),
    Knob("leader.replication.throttled.replicas", _LIST, "", has_places=True,
         doc="PARTITION:BROKER,.. or *: who fills others at leader.replication.throttled.rate"),
    _unhonoured("local.retention.bytes", _L, "-2", _TIERED_LATER),
    _unhonoured("local.retention.ms", _L, "-2", _TIERED_LATER),
    Knob("max.compaction.lag.ms", _L, str(LONG_MAX), "age at which a record is compacted anyway",
         low=1, synonym="log.cleaner.max.compaction.lag.ms"),
    Knob("max.message.bytes", _I, "1048588", "largest record batch", low=0,
         synonym="message.max.bytes"),
    Knob("message.timestamp.after.max.ms", _L, "3600000", "how far in the future", low=0,
         synonym="log.message.timestamp.after.max.ms"),
    Knob("message.timestamp.before.max.ms", _L, str(LONG_MAX), "how far in the past", low=0,
         synonym="log.message.timestamp.before.max.ms"),
    Knob("message.timestamp.type", _S, "CreateTime", "whose clock stamps records",
         choices=("CreateTime", "LogAppendTime"), synonym="log.message.timestamp.type"),
    Knob("min.cleanable.dirty.ratio", _D, "0.5", "part of a log that is new before it is compacted",
         low=0, high=1, synonym="log.cleaner.min.cleanable.ratio"),
    Knob("min.compaction.lag.ms", _L, "0", "age below which a record is not compacted", low=0,
         synonym="log.cleaner.min.compaction.lag.ms"),
    Knob("min.insync.replicas", _I, "1", "in-sync replicas that acks=all needs", low=1,
         synonym="min.insync.replicas"),
    _unhonoured("preallocate", _B, "false", "", "log.preallocate"),
    _unhonoured("remote.log.copy.disable", _B, "false", _TIERED_LATER),
    _unhonoured("remote.log.delete.on.disable", _B, "false", _TIERED_LATER),
    _unhonoured("remote.storage.enable", _B, "false", _TIERED_LATER),
    Knob("retention.bytes", _L, "-1", "size a partition may have; -1 for any", low=-1,
         synonym="log.retention.bytes"),
    Knob("retention.ms", _L, "604800000", "age a segment may have; -1 for any", low=-1,
         synonym="log.retention.ms"),
    Knob("segment.bytes", _I, "1073741824", "size at which a segment is rolled", low=1048576,
         synonym="log.segment.bytes"),
    Knob("segment.index.bytes", _I, "10485760", "size of an offset index", low=4,
         synonym="log.index.size.max.bytes"),
    Knob("segment.jitter.ms", _L, "0", "random part of segment.ms", low=0,
         synonym="log.roll.jitter.ms"),
    Knob("segment.ms", _L, "604800000", "age at which a segment is rolled", low=1,
         synonym="log.roll.ms"),
    Knob("unclean.leader.election.enable", _B, "false", "elect a replica that lacks records",
         synonym="unclean.leader.election.enable"),
)  # fmt: skip
"""What a topic may override. `compression.type` accepts its default only."""

_TOPIC_DEFAULTS: Final = tuple(
    Knob(knob.synonym, knob.kind, knob.default, knob.doc, knob.low, knob.high, knob.choices,
         knob.may_be_empty, True, knob.honoured, knob.reason)
    for knob in TOPIC_KNOBS.values() if knob.synonym
)  # fmt: skip

BROKER_KNOBS: Final = _table(
    *_TOPIC_DEFAULTS,
    Knob("auto.create.topics.enable", _B, "true", "Metadata creates topics that are missing"),
    Knob("auto.leader.rebalance.enable", _B, "true", "give partitions back to preferred leaders"),
    Knob("leader.imbalance.check.interval.seconds", _L, "300", low=1, is_dynamic=False,
         doc="how often preferred leaders are looked after"),
    Knob("default.replication.factor", _I, "-1", low=-1, high=INT_MAX,
         doc="of topics that do not say; -1: the lesser of 3 and the number of brokers (Kafka: 1)"),
    Knob("num.partitions", _I, "1", "partitions of topics that do not say", low=1),
    Knob("broker.session.timeout.ms", _I, "3000", low=100, is_dynamic=False,
         doc="a broker silent for so long is fenced (Kafka: 9000)"),
    Knob("broker.heartbeat.interval.ms", _I, "1000", low=10, is_dynamic=False,
         doc="a third of the session timeout (Kafka: 2000)"),
    Knob("replica.lag.time.max.ms", _L, "30000", low=1, is_dynamic=False,
         doc="a follower not caught up for so long leaves the ISR"),
    Knob("leader.replication.throttled.rate", _L, str(LONG_MAX), low=0,
         doc="bytes a second that a broker sends to throttled replicas that are not in sync"),
    Knob("follower.replication.throttled.rate", _L, str(LONG_MAX), low=0,
         doc="bytes a second that a broker is sent, where its replicas are throttled"),
    Knob("replica.fetch.backoff.ms", _I, "200", low=0, is_dynamic=False,
         doc="before a refused stream is opened again"),
    Knob("replica.fetch.max.bytes", _I, "1048576", low=0, is_dynamic=False,
         doc="bytes of one partition in one push, read from the file"),
    Knob("socket.request.max.bytes", _I, "104857600", low=1, is_dynamic=False,
         doc="largest Produce request"),
    Knob("queued.max.request.bytes", _L, "268435456", low=1, is_dynamic=False,
         doc="bytes of requests in memory at which sockets are no longer read (Kafka: -1)"),
    Knob("max.connections", _I, "4000", "client connections of a broker", low=0),
    Knob("connections.max.idle.ms", _L, "600000", "an idle connection is closed after so long",
         low=1, is_dynamic=False),
    Knob("producer.id.expiration.ms", _I, "86400000", "a silent producer is forgotten", low=1),
    Knob("log.retention.check.interval.ms", _L, "300000", low=1, is_dynamic=False,
         doc="how often retention looks for segments to delete"),
    Knob("log.cleaner.enable", _B, "true", "whether logs are compacted", is_dynamic=False),
    Knob("log.cleaner.backoff.ms", _L, "15000", low=1, is_dynamic=False,
         doc="how often compaction looks for something to do"),
    Knob("log.cleaner.dedupe.buffer.size", _L, "134217728", low=1024, is_dynamic=False,
         doc="memory for the keys of one compaction; more keys take more than one"),
    Knob("log.flush.offset.checkpoint.interval.ms", _I, "60000", low=1, is_dynamic=False,
         doc="how often the recovery point is written"),
    Knob("replica.high.watermark.checkpoint.interval.ms", _L, "5000", low=1, is_dynamic=False,
         doc="how often high watermarks are written"),
    Knob("fault.injection.enable", _B, "false", is_dynamic=False,
         doc="disks fail where `world/failpoints.py` is told to (not of Kafka)"),
    Knob("fetch.max.bytes", _I, "57671680", low=1024, is_dynamic=False,
         doc="largest Fetch response"),
    Knob("max.request.partition.size.limit", _I, "2000", low=1, is_dynamic=False,
         doc="partitions in one DescribeTopicPartitions response"),
    Knob("delete.topic.enable", _B, "true", "whether topics may be deleted", is_dynamic=False),
    Knob("group.min.session.timeout.ms", _I, "6000", low=1,
         doc="shortest session that a member of a group may ask for"),
    Knob("group.max.session.timeout.ms", _I, "1800000", low=1,
         doc="longest session that a member of a group may ask for"),
    Knob("group.initial.rebalance.delay.ms", _I, "0", low=0,
         doc="how long the first member of a group waits for others (Kafka: 3000)"),
    Knob("group.max.size", _I, str(INT_MAX), "members that a group may have", low=1),
    Knob("group.consumer.session.timeout.ms", _I, "45000", low=1,
         doc="a member of a group of the consumer protocol that is silent for so long is out"),
    Knob("group.consumer.min.session.timeout.ms", _I, "6000", low=1,
         doc="what that session is at least (Kafka: 45000)"),
    Knob("group.consumer.max.session.timeout.ms", _I, "60000", low=1,
         doc="what that session is at most"),
    Knob("group.consumer.heartbeat.interval.ms", _I, "5000", low=1,
         doc="how often members of groups of the consumer protocol are told to be heard"),
    Knob("group.consumer.min.heartbeat.interval.ms", _I, "500", low=1,
         doc="what that interval is at least (Kafka: 5000)"),
    Knob("group.consumer.max.heartbeat.interval.ms", _I, "15000", low=1,
         doc="what that interval is at most"),
    Knob("group.consumer.max.size", _I, str(INT_MAX), low=1,
         doc="members that a group of the consumer protocol may have"),
    Knob("group.consumer.assignors", _LIST, "uniform,range", choices=("uniform", "range"),
         doc="assignors of the coordinator; the first is that of groups that ask for none"),
    Knob("group.consumer.migration.policy", _S, "bidirectional",
         choices=("bidirectional", "upgrade", "downgrade", "disabled"),
         doc="which groups with members may go from one protocol to the other"),
    _unhonoured("group.consumer.assignment.interval.ms", _I, "0",
                "a kcluster broker assigns at once (Kafka: 1000)"),
    Knob("offset.metadata.max.bytes", _I, "4096", low=0,
         doc="metadata that a consumer may keep with an offset"),
    Knob("offsets.commit.timeout.ms", _I, "5000", low=1,
         doc="how long a commit waits for the replicas"),
    Knob("offsets.retention.minutes", _I, "10080", low=1,
         doc="how long the offsets of a group without members are kept"),
    Knob("offsets.retention.check.interval.ms", _L, "600000", low=1, is_dynamic=False,
         doc="how often expired offsets are looked for"),
    Knob("offsets.topic.num.partitions", _I, "12", low=1, is_dynamic=False,
         doc="partitions of __consumer_offsets (Kafka: 50)"),
    Knob("offsets.topic.replication.factor", Kind.SHORT, "3", low=1, is_dynamic=False,
         doc="of __consumer_offsets, or the number of brokers when that is less"),
    Knob("offsets.topic.segment.bytes", _I, "8388608", low=1048576, is_dynamic=False,
         doc="of __consumer_offsets (Kafka: 104857600); a new coordinator reads it all, about "
         "10 MiB in 0.3 s, and only rolled segments are compacted"),
    Knob("replica.selector.class", _S, "", is_dynamic=False,
         choices=(LEADER_SELECTOR, RACK_AWARE_SELECTOR, ""),
         doc="from which replica consumers are told to read: the leader, or one in their rack"),
    Knob("quota.window.num", _I, "11", low=1, is_dynamic=False,
         doc="windows over which the rates of clients with a quota are taken"),
    Knob("quota.window.size.seconds", _I, "1", low=1, is_dynamic=False,
         doc="length of one such window"),
    Knob("num.io.threads", _I, "1", is_dynamic=False, honoured=False,
         reason="a kcluster broker is one thread and one loop"),
    Knob("num.network.threads", _I, "1", is_dynamic=False, honoured=False,
         reason="a kcluster broker is one thread and one loop"),
)  # fmt: skip

ORDERED_KNOBS: Final = (
    ("group.consumer.min.session.timeout.ms", "group.consumer.session.timeout.ms"),
    ("group.consumer.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    ("group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
    ("group.consumer.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"),
    ("group.consumer.heartbeat.interval.ms", "group.consumer.session.timeout.ms"),
)
"""Of each pair the first is at most the second, or a broker does not start. What is changed while
brokers run is held within these bounds instead."""

IDENTITY_KNOBS: Final = _table(
    Knob("advertised.listeners", _LIST, "", "where clients are told to find this broker"),
    Knob("broker.id", _I, "-1", "the number of this broker"),
    Knob("broker.rack", _S, "", "where this broker stands"),
    Knob("listeners", _LIST, "", "where this broker listens"),
    Knob("log.dirs", _LIST, "", "where this broker keeps its logs"),
    Knob("node.id", _I, "-1", "the number of this broker"),
)
"""What Kafka's brokers are configured with and ours are told by the launcher. Tools read it of a
running broker; nobody sets it by these names."""


def throttled_replicas(text: str) -> frozenset[str]:
    """What a config of that kind names."""
    return frozenset(item.strip() for item in text.split(",") if item.strip())


def check_topic_config(name: str, value: str) -> str:
    """The value, checked. Raises ApiError INVALID_CONFIG with the reason otherwise."""
    return _check(TOPIC_KNOBS, name, value, "topic")


def check_broker_config(name: str, value: str, *, at_start: bool = False) -> str:
    knob = BROKER_KNOBS.get(name)
    if knob is not None and not knob.is_dynamic and not at_start:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} can only be set at start (-X)")
    return _check(BROKER_KNOBS, name, value, "broker")


def check_order(options: Mapping[str, str]) -> None:
    """Of broker configs at start. Raises ApiError INVALID_CONFIG."""
    for low, high in ORDERED_KNOBS:
        if low not in options and high not in options:
            continue
        least, most = (options.get(name, BROKER_KNOBS[name].default) for name in (low, high))
        if int(least) > int(most):
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"{low} must be at most {high}: {least} is more than {most}",
            )


def _check(knobs: dict[str, Knob], name: str, value: str, what: str) -> str:
    knob = knobs.get(name)
    if knob is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"unknown {what} config {name}")
    problem = knob.check(value)
    if problem is not None:
        raise ApiError(ErrorCode.INVALID_CONFIG, problem)
    return value


class Settings:
    """Values of knobs from layers, the first that has one wins: dynamic broker, dynamic
    cluster-wide, `-X` at start, default. A topic's knob falls back to its synonym here."""

    def __init__(
        self, static: Mapping[str, str] | None = None, identity: Mapping[str, str] | None = None
    ) -> None:
        self.static = dict(static or {})
        self.identity = dict(identity or {})
        """By the names of IDENTITY_KNOBS; empty where no process tells."""
        self.dynamic: dict[str, str] = {}
        """Set by whoever watches the image: this broker's overrides over the cluster's."""

    def text(self, name: str) -> str:
        for layer in (self.dynamic, self.static):
            if name in layer:
                return layer[name]
        return BROKER_KNOBS[name].default

    def int(self, name: str) -> int:
        return int(self.text(name))

    def bool(self, name: str) -> bool:
        return self.text(name).lower() == "true"

    def topic_text(self, name: str, overrides: Mapping[str, str]) -> str:
        if name in overrides:
            return overrides[name]
        knob = TOPIC_KNOBS[name]
        return self.text(knob.synonym) if knob.synonym else knob.default

    def log_config(self, overrides: Mapping[str, str]) -> LogConfig:
        """The settings of one topic's logs."""

        def number(name: str) -> int:
            return int(self.topic_text(name, overrides))

        policy = [item.strip() for item in self.topic_text("cleanup.policy", overrides).split(",")]
        max_compaction_lag_ms = number("max.compaction.lag.ms")
        segment_ms = number("segment.ms")
        if "compact" in policy:
            # The active segment is never compacted: what must be soon has to be sealed by then.
            segment_ms = min(segment_ms, max_compaction_lag_ms)
        return LogConfig(
            segment_bytes=number("segment.bytes"),
            segment_ms=segment_ms,
            segment_jitter_ms=number("segment.jitter.ms"),
            segment_index_bytes=number("segment.index.bytes"),
            index_interval_bytes=number("index.interval.bytes"),
            retention_bytes=number("retention.bytes"),
            retention_ms=number("retention.ms"),
            flush_messages=number("flush.messages"),
            flush_ms=number("flush.ms"),
            file_delete_delay_ms=number("file.delete.delay.ms"),
            max_message_bytes=number("max.message.bytes"),
            timestamp_before_max_ms=number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms=number("message.timestamp.after.max.ms"),
            is_log_append_time=self.topic_text("message.timestamp.type", overrides)
            == "LogAppendTime",
            min_insync_replicas=number("min.insync.replicas"),
            allows_unclean_election=self.topic_text(
                "unclean.leader.election.enable", overrides
            ).lower()
            == "true",
            producer_id_expiration_ms=self.int("producer.id.expiration.ms"),
            is_compacted="compact" in policy,
            applies_retention="delete" in policy,
            min_cleanable_dirty_ratio=float(
                self.topic_text("min.cleanable.dirty.ratio", overrides)
            ),
            min_compaction_lag_ms=number("min.compaction.lag.ms"),
            max_compaction_lag_ms=max_compaction_lag_ms,
            delete_retention_ms=number("delete.retention.ms"),
            leader_throttled_replicas=throttled_replicas(
                self.topic_text("leader.replication.throttled.replicas", overrides)
            ),
            follower_throttled_replicas=throttled_replicas(
                self.topic_text("follower.replication.throttled.replicas", overrides)
            ),
        )


class LogConfig(msgspec.Struct, frozen=True):
    """A topic's settings as its logs need them. Sizes in bytes, times in ms, -1 for no limit."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 604_800_000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_bytes: int = -1
    retention_ms: int = 604_800_000
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    file_delete_delay_ms: int = 60_000
    max_message_bytes: int = 1_048_588
    timestamp_before_max_ms: int = LONG_MAX
    timestamp_after_max_ms: int = 3_600_000
    is_log_append_time: bool = False
    min_insync_replicas: int = 1
    allows_unclean_election: bool = False
    producer_id_expiration_ms: int = 86_400_000
    is_compacted: bool = False
    applies_retention: bool = True
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = LONG_MAX
    delete_retention_ms: int = 86_400_000
    leader_throttled_replicas: frozenset[str] = frozenset()
    """PARTITION:BROKER, or *."""
    follower_throttled_replicas: frozenset[str] = frozenset()
