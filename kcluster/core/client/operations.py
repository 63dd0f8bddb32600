"""Questions and orders about the cluster, topics, configs and offsets: one generator each.

Which broker is asked: any one, and what only the controller does it passes on (KIP-500); the
leader of a partition, as Metadata names it, again after each refusal that time may heal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from kcluster.core.client import results as r
from kcluster.core.client.admin import ANY, Ask, Operation, Pause
from kcluster.core.client.exchange import ASK_AGAIN, METADATA_VERSION
from kcluster.core.client.offsets import by_topic
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import NO_LEADER, TopicPartition, topic_id_text
from kcluster.wire.message import Message
from kcluster.wire.messages import create_partitions as cp
from kcluster.wire.messages import create_topics as ct
from kcluster.wire.messages import delete_records as dr
from kcluster.wire.messages import delete_topics as dt
from kcluster.wire.messages import describe_configs as dc
from kcluster.wire.messages import elect_leaders as el
from kcluster.wire.messages import incremental_alter_configs as ac
from kcluster.wire.messages import list_offsets as lo
from kcluster.wire.messages import metadata as m

ORDER_MS: Final = 25_000
"""How long brokers may take for what a controller has to do."""

CONSUMER: Final = -1
"""Replica id of who is no broker."""

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3

TOPIC, BROKER = 2, 4
KINDS: Final = {"topic": TOPIC, "broker": BROKER}
"""Resources that have configs."""

SOURCES: Final = {1: "topic", 2: "broker", 3: "brokers", 4: "start", 5: "default"}

SET, DELETE = 0, 1
"""Operations of IncrementalAlterConfigs."""


# --- asking -------------------------------------------------------------------------------


def answered(
    broker: int, request: Message, version: int | None = None, timeout_ms: int | None = None
) -> Operation[Any]:
    """The response of this broker, or of any: as soon as one comes."""
    while True:
        response = yield Ask(broker, request, version, timeout_ms)
        if response is not None:
            return response
        yield Pause()


def ordered(
    request: Message, codes: Callable[[Any], Iterable[int]], timeout_ms: int = ORDER_MS
) -> Operation[Any]:
    """The response of the controller. A broker that does not pass orders on says that it is not
    the controller; then the one that is named is asked."""
    broker = ANY
    while True:
        response = yield from answered(broker, request, timeout_ms=timeout_ms + 5_000)
        if ErrorCode.NOT_CONTROLLER not in codes(response):
            return response
        yield Pause()
        cluster = yield from described([])
        broker = cluster.controller_id if cluster.controller_id >= 0 else ANY


def refuse(code: int, message: str | None = None, about: str = "") -> None:
    """ApiError for a code other than NONE."""
    if code != ErrorCode.NONE:
        error = ErrorCode(code)
        text = message or error.name
        raise ApiError(error, f"{about}: {text}" if about else text)


class Reason:
    """Why an operation still waits: told when its time is over, in the place of that."""

    def __init__(self) -> None:
        self.error: ApiError | None = None

    def __enter__(self) -> Reason:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_late = isinstance(error, ApiError) and error.code is ErrorCode.REQUEST_TIMED_OUT
        if is_late and self.error is not None:
            raise self.error from None

    def wait(self, code: int, message: str | None = None) -> Operation[None]:
        """A pause, for this reason."""
        self.error = ApiError(ErrorCode(code), message)
        yield Pause()


# --- the cluster and its topics -----------------------------------------------------------


def cluster() -> Operation[r.Cluster]:
    """Its brokers that are alive, and which of them takes orders."""
    response = yield from described([])
    return r.Cluster(
        response.cluster_id,
        response.controller_id,
        [
            r.Broker(each.node_id, each.host, each.port, each.rack)
            for each in sorted(response.brokers, key=lambda each: each.node_id)
        ],
    )


def topics(names: Sequence[str] | None = None, *, internal: bool = False) -> Operation[
    list[r.Topic]
]:  # fmt: skip
    """All topics by name, or those of these names: ApiError for the first that is not there.
    `internal`: Kafka's own as well, when all are asked for."""
    response = yield from described(names)
    found = []
    for topic in sorted(response.topics, key=lambda each: each.name or ""):
        if names is not None:
            refuse(topic.error_code, _no_topic(topic), "")
        elif topic.error_code or (topic.is_internal and not internal):
            continue
        found.append(
            r.Topic(
                topic.name or "",
                topic_id_text(topic.topic_id),
                topic.is_internal,
                [
                    r.Partition(
                        each.partition_index,
                        each.leader_id,
                        each.leader_epoch,
                        list(each.replica_nodes),
                        list(each.isr_nodes),
                        list(each.offline_replicas),
                    )
                    for each in sorted(topic.partitions, key=lambda each: each.partition_index)
                ],
            )
        )
    return found


def described(names: Iterable[str] | None) -> Operation[m.MetadataResponse]:
    """What some broker says of these topics, or of all. None is created."""
    wanted = None if names is None else [m.MetadataRequestTopic(name=name) for name in names]
    request = m.MetadataRequest(topics=wanted, allow_auto_topic_creation=False)
    return (yield from answered(ANY, request, METADATA_VERSION))  # type: ignore[no-any-return]


def _no_topic(topic: m.MetadataResponseTopic) -> str | None:
    if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return f"there is no topic {topic.name}"
    return None


def create_topic(
    name: str,
    partitions: int = -1,
    replicas: int = -1,
    configs: Mapping[str, str] | None = None,
) -> Operation[r.CreatedTopic]:
    """-1: the cluster's default. Raises ApiError, TOPIC_ALREADY_EXISTS among others."""
    wanted = ct.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        configs=[
            ct.CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()
        ],
    )
    response = yield from ordered(
        ct.CreateTopicsRequest(topics=[wanted], timeout_ms=ORDER_MS),
        lambda response: [topic.error_code for topic in response.topics],
    )
    [created] = response.topics
    refuse(created.error_code, created.error_message)
    return r.CreatedTopic(name, created.num_partitions, created.replication_factor)


def delete_topics(*names: str) -> Operation[None]:
    """With their records. Raises ApiError for the first that was refused; others may be gone."""
    response = yield from ordered(
        dt.DeleteTopicsRequest(
            topics=[dt.DeleteTopicState(name=name) for name in names],
            topic_names=list(names),
            timeout_ms=ORDER_MS,
        ),
        lambda response: [topic.error_code for topic in response.responses],
    )
    for topic in response.responses:
        refuse(topic.error_code, topic.error_message, topic.name or "" if len(names) > 1 else "")


def add_partitions(name: str, count: int) -> Operation[None]:
    """`count`: how many there shall be in all; never fewer than there are."""
    wanted = cp.CreatePartitionsTopic(name=name, count=count, assignments=None)
    response = yield from ordered(
        cp.CreatePartitionsRequest(topics=[wanted], timeout_ms=ORDER_MS),
        lambda response: [topic.error_code for topic in response.results],
    )
    [result] = response.results
    refuse(result.error_code, result.error_message)


def elect_leaders(
    partitions: Iterable[TopicPartition] | None = None, *, unclean: bool = False
) -> Operation[list[r.Election]]:
    """Of these, or of all: by their preferred replicas, or by any that lives."""
    wanted = None
    if partitions is not None:
        wanted = [
            el.TopicPartitions(topic=topic, partitions=indexes)
            for topic, indexes in by_topic(partitions).items()
        ]
    response = yield from ordered(
        el.ElectLeadersRequest(
            election_type=int(unclean), topic_partitions=wanted, timeout_ms=ORDER_MS
        ),
        lambda response: [response.error_code],
    )
    refuse(response.error_code)
    return [
        r.Election(
            TopicPartition(topic.topic, each.partition_id),
            ErrorCode(each.error_code).name if each.error_code else None,
            each.error_message or None,
        )
        for topic in response.replica_election_results
        for each in topic.partition_result
    ]


# --- configs ------------------------------------------------------------------------------


def configs(name: str, kind: str = "topic") -> Operation[list[r.Config]]:
    """Of a topic, or of a broker by its id."""
    resource = dc.DescribeConfigsResource(
        resource_type=KINDS[kind], resource_name=name, configuration_keys=None
    )
    response = yield from answered(
        _who_knows(kind, name),
        dc.DescribeConfigsRequest(resources=[resource], include_documentation=True),
    )
    [result] = response.results
    refuse(result.error_code, result.error_message)
    return [
        r.Config(
            each.name,
            each.value,
            SOURCES.get(each.config_source, str(each.config_source)),
            each.read_only,
            each.is_sensitive,
            each.documentation,
        )
        for each in result.configs
    ]


def alter_configs(
    name: str,
    changes: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
    kind: str = "topic",
) -> Operation[None]:
    """Set some, have others back at their defaults; the rest stays. All or nothing."""
    altered = [
        ac.AlterableConfig(name=key, config_operation=SET, value=value)
        for key, value in (changes or {}).items()
    ]
    altered += [
        ac.AlterableConfig(name=key, config_operation=DELETE, value=None) for key in removed
    ]
    resource = ac.AlterConfigsResource(
        resource_type=KINDS[kind], resource_name=name, configs=altered
    )
    request = ac.IncrementalAlterConfigsRequest(resources=[resource])
    if kind == "broker" and name:
        response = yield from answered(int(name), request)
    else:
        response = yield from ordered(
            request, lambda response: [each.error_code for each in response.responses]
        )
    [result] = response.responses
    refuse(result.error_code, result.error_message)


def _who_knows(kind: str, name: str) -> int:
    """A broker tells of its own configs only."""
    return int(name) if kind == "broker" and name else ANY


# --- partitions, at their leaders ---------------------------------------------------------


def led(partitions: Iterable[TopicPartition]) -> Operation[list[TopicPartition]]:
    """Those of these that are there and have a leader, by name."""
    wanted = sorted(set(partitions))
    leaders = leaders_in((yield from described(sorted({tp.topic for tp in wanted}))))
    return [tp for tp in wanted if leaders.get(tp, NO_LEADER) != NO_LEADER]


def offsets(
    partitions: Iterable[TopicPartition], at: int = LATEST
) -> Operation[dict[TopicPartition, r.Offset]]:
    """Of the first record at or after a time in ms; or of a place: LATEST (the end), EARLIEST,
    MAX_TIMESTAMP. ApiError when a partition is not there or nobody leads it."""

    def request(some: list[TopicPartition]) -> Message:
        return lo.ListOffsetsRequest(
            replica_id=CONSUMER,
            topics=[
                lo.ListOffsetsTopic(
                    name=topic,
                    partitions=[
                        lo.ListOffsetsPartition(partition_index=index, timestamp=at)
                        for index in indexes
                    ],
                )
                for topic, indexes in by_topic(some).items()
            ],
        )

    found = yield from _at_leaders(partitions, request)
    return {
        tp: r.Offset(part.offset, part.timestamp, leader) for tp, (part, leader) in found.items()
    }


def delete_records(
    before: Mapping[TopicPartition, int], timeout_ms: int = ORDER_MS
) -> Operation[dict[TopicPartition, r.Offset | ApiError]]:
    """What is below these offsets, for good. By partition: where it begins now, or the refusal,
    since some may have been done."""

    def request(some: list[TopicPartition]) -> Message:
        return dr.DeleteRecordsRequest(
            topics=[
                dr.DeleteRecordsTopic(
                    name=topic,
                    partitions=[
                        dr.DeleteRecordsPartition(
                            partition_index=index, offset=before[TopicPartition(topic, index)]
                        )
                        for index in indexes
                    ],
                )
                for topic, indexes in by_topic(some).items()
            ],
            timeout_ms=timeout_ms,
        )

    found = yield from _at_leaders(before, request, timeout_ms + 5_000, keeps_refusals=True)
    return {
        tp: r.Offset(part.low_watermark, -1, leader)
        if not part.error_code
        else ApiError(ErrorCode(part.error_code))
        for tp, (part, leader) in found.items()
    }


def _at_leaders(
    partitions: Iterable[TopicPartition],
    request: Callable[[list[TopicPartition]], Message],
    timeout_ms: int | None = None,
    *,
    keeps_refusals: bool = False,
) -> Operation[dict[TopicPartition, tuple[Any, int]]]:
    """(what its leader says of it, the leader) of each; who led no more is asked for again."""
    left = sorted(set(partitions))
    found: dict[TopicPartition, tuple[Any, int]] = {}
    with Reason() as reason:
        while left:
            leaders = yield from _leaders(left)
            led: dict[int, list[TopicPartition]] = {}
            for tp in left:
                if leaders[tp] == NO_LEADER:
                    reason.error = ApiError(ErrorCode.LEADER_NOT_AVAILABLE, f"nobody leads {tp}")
                else:
                    led.setdefault(leaders[tp], []).append(tp)
            asked = sorted(led.items())
            responses = yield [
                Ask(leader, request(some), timeout_ms=timeout_ms) for leader, some in asked
            ]
            for (leader, _), response in zip(asked, responses, strict=True):
                for tp, part in _parts(response):
                    code = ErrorCode(part.error_code)
                    if code in ASK_AGAIN and not (
                        keeps_refusals and code is ErrorCode.REQUEST_TIMED_OUT
                    ):
                        reason.error = ApiError(code, f"{tp}: {code.name}")
                        continue
                    if not keeps_refusals:
                        refuse(code, None, str(tp))
                    found[tp] = part, leader
            left = [tp for tp in left if tp not in found]
            if left:
                yield Pause()
    return dict(sorted(found.items()))


def _parts(response: Any) -> Iterator[tuple[TopicPartition, Any]]:
    for topic in () if response is None else response.topics:
        for part in topic.partitions:
            yield TopicPartition(topic.name, part.partition_index), part


def _leaders(partitions: Sequence[TopicPartition]) -> Operation[dict[TopicPartition, int]]:
    """ApiError when one is not there."""
    response = yield from described(sorted({tp.topic for tp in partitions}))
    for topic in response.topics:
        if topic.error_code not in (ErrorCode.NONE, ErrorCode.LEADER_NOT_AVAILABLE):
            refuse(topic.error_code, _no_topic(topic))
    leaders = leaders_in(response)
    for tp in partitions:
        if tp not in leaders:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {tp}")
    return leaders


def leaders_in(response: m.MetadataResponse) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic.name or "", part.partition_index): part.leader_id
        for topic in response.topics
        for part in topic.partitions
    }
