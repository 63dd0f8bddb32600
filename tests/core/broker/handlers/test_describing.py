from __future__ import annotations

import pytest

from kcluster.config import Settings
from kcluster.core.broker.handlers import (
    api_versions,
    describe_cluster,
    describe_configs,
    describe_topic_partitions,
    find_coordinator,
)
from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.wire.apis import APIS
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.describe_cluster import DescribeClusterRequest
from kcluster.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from kcluster.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from kcluster.wire.messages.find_coordinator import FindCoordinatorRequest
from tests.core.broker.handlers.reading import (
    EMPTY,
    FakeBroker,
    ask,
    image,
    led,
)

# --- ApiVersions ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(5))
def test_what_is_served_is_advertised_and_nothing_else(version: int) -> None:
    request = ApiVersionsRequest(client_software_name="lib", client_software_version="1.0-rc.1")
    answer = ask(api_versions, FakeBroker(), request, version)
    assert answer.error_code == 0
    assert [a.api_key for a in answer.api_keys] == sorted(APIS)
    [produce] = [a for a in answer.api_keys if a.api_key == 0]
    assert (produce.min_version, produce.max_version) == (0, 13)


@pytest.mark.parametrize("name", ["", "-lib", "lib.", "a lib", "lib\n"])
def test_a_client_without_a_proper_software_name_is_refused(name: str) -> None:
    request = ApiVersionsRequest(client_software_name=name, client_software_version="1")
    answer = ask(api_versions, FakeBroker(), request, 3)
    assert answer.error_code == ErrorCode.INVALID_REQUEST


def test_a_version_of_the_future_is_told_our_range_in_version_0() -> None:
    answer = decode(ApiVersionsResponse, encode(api_versions.unknown_version(), 0), 0)
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    [only] = answer.api_keys
    assert (only.api_key, only.min_version, only.max_version) == (18, 0, 4)


def test_the_features_epoch_is_never_negative() -> None:
    request = ApiVersionsRequest(client_software_name="lib", client_software_version="1")
    assert ask(api_versions, FakeBroker(), request, 4).finalized_features_epoch >= 0


# --- DescribeCluster ------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(3))
def test_the_cluster_is_described_without_its_fenced_brokers(version: int) -> None:
    broker = FakeBroker(image=image(r.BrokerFenced(3, 13)))
    answer = ask(describe_cluster, broker, DescribeClusterRequest(), version)
    assert answer.cluster_id == "cluster-of-three-brok1"
    assert answer.controller_id == 1
    assert [b.broker_id for b in answer.brokers] == [1, 2]


def test_fenced_brokers_are_named_when_asked_for() -> None:
    broker = FakeBroker(image=image(r.BrokerFenced(3, 13)))
    answer = ask(describe_cluster, broker, DescribeClusterRequest(include_fenced_brokers=True), 2)
    assert [(b.broker_id, b.is_fenced) for b in answer.brokers][-1] == (3, True)


def test_a_listener_of_brokers_does_not_pass_for_controllers() -> None:
    answer = ask(describe_cluster, FakeBroker(), DescribeClusterRequest(endpoint_type=2), 1)
    assert answer.error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE
    answer = ask(describe_cluster, FakeBroker(), DescribeClusterRequest(endpoint_type=9), 1)
    assert answer.error_code == ErrorCode.UNSUPPORTED_ENDPOINT_TYPE


# --- DescribeTopicPartitions ----------------------------------------------------------------


def pages(broker: FakeBroker, names: list[str], limit: int) -> list[list[tuple[str, int]]]:
    out, cursor = [], None
    while True:
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name=name) for name in names],
            response_partition_limit=limit,
            cursor=cursor,
        )
        answer = ask(describe_topic_partitions, broker, request, 0)
        out.append([(t.name, p.partition_index) for t in answer.topics for p in t.partitions])
        if answer.next_cursor is None:
            return out
        cursor = Cursor(
            topic_name=answer.next_cursor.topic_name,
            partition_index=answer.next_cursor.partition_index,
        )


def two_topics() -> FakeBroker:
    return FakeBroker(
        image=image(
            r.TopicCreated("clicks", EMPTY),
            *(led(partition, 1, topic_id=EMPTY) for partition in range(3)),
        )
    )


def test_all_partitions_come_page_by_page_in_the_order_of_names() -> None:
    everything = [("clicks", 0), ("clicks", 1), ("clicks", 2), ("orders", 0), ("orders", 1)]
    for limit in range(1, 7):
        got = pages(two_topics(), [], limit)
        assert [entry for page in got for entry in page] == everything
        assert all(len(page) <= limit for page in got)


def test_the_brokers_own_limit_holds_above_the_clients() -> None:
    broker = two_topics()
    broker.settings = Settings({"max.request.partition.size.limit": "2"})
    assert all(len(page) <= 2 for page in pages(broker, ["orders", "clicks"], 2000))


def test_eligible_leaders_and_missing_topics_are_told() -> None:
    broker = FakeBroker(image=image(led(0, -1, isr=[], elr=[2], last_known_leader=1)))
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name="orders"), TopicRequest(name="gone"), TopicRequest(name="a/b")]
    )
    refused, gone, orders = ask(describe_topic_partitions, broker, request, 0).topics
    assert refused.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert gone.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    first = orders.partitions[0]
    assert (first.eligible_leader_replicas, first.last_known_elr) == ([2], [1])
    assert first.error_code == ErrorCode.LEADER_NOT_AVAILABLE


# --- DescribeConfigs ------------------------------------------------------------------------


def described(broker: FakeBroker, kind: int, name: str, *keys: str, version: int = 4) -> object:
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(
                resource_type=kind, resource_name=name, configuration_keys=list(keys) or None
            )
        ],
        include_synonyms=True,
        include_documentation=True,
    )
    [result] = ask(describe_configs, broker, request, version).results
    return result


@pytest.mark.parametrize("version", range(1, 5))
def test_a_topics_value_comes_from_the_nearest_place(version: int) -> None:
    broker = FakeBroker(
        image=image(
            r.ConfigChanged(2, "orders", "retention.ms", "1000"),
            r.ConfigChanged(4, "1", "log.retention.ms", "2000"),
            r.ConfigChanged(4, "", "log.retention.ms", "3000"),
        ),
        settings=Settings({"log.retention.ms": "4000"}),
    )
    [config] = described(broker, 2, "orders", "retention.ms", version=version).configs
    assert (config.value, config.config_source) == ("1000", 1)
    assert [(s.name, s.value, s.source) for s in config.synonyms] == [
        ("retention.ms", "1000", 1),
        ("log.retention.ms", "2000", 2),
        ("log.retention.ms", "3000", 3),
        ("log.retention.ms", "4000", 4),
        ("log.retention.ms", "604800000", 5),
    ]
    if version >= 3:
        assert config.config_type == 5
        assert config.documentation


def test_every_knob_is_described_and_unhonoured_ones_say_why() -> None:
    configs = {c.name: c for c in described(FakeBroker(), 2, "orders").configs}
    assert configs["segment.bytes"].value == "1073741824"
    assert configs["segment.bytes"].config_source == 5
    assert "recompresses" in configs["compression.type"].documentation


def test_a_broker_describes_itself_and_the_cluster_but_no_other_broker() -> None:
    broker = FakeBroker(image=image(r.ConfigChanged(4, "", "num.partitions", "6")))
    itself = {c.name: c for c in described(broker, 4, "1").configs}
    assert (itself["num.partitions"].value, itself["num.partitions"].config_source) == ("6", 3)
    assert itself["broker.session.timeout.ms"].read_only
    assert not itself["num.partitions"].read_only
    assert [c.name for c in described(broker, 4, "").configs] == ["num.partitions"]
    assert described(broker, 4, "2").error_code == ErrorCode.INVALID_REQUEST
    assert described(broker, 4, "one").error_code == ErrorCode.INVALID_REQUEST


def test_a_broker_tells_who_it_is_and_where_it_listens_read_only() -> None:
    who = {"node.id": "1", "advertised.listeners": "PLAINTEXT://127.0.0.1:19092"}
    broker = FakeBroker(settings=Settings(identity=who))
    configs = {c.name: c for c in described(broker, 4, "1").configs}
    assert {name: configs[name].value for name in who} == who
    assert all(configs[name].read_only and configs[name].config_source == 4 for name in who)
    assert [c.name for c in described(broker, 4, "1", "node.id").configs] == ["node.id"]
    assert "log.dirs" not in configs
    assert not who.keys() & {c.name for c in described(broker, 4, "").configs}


def test_resources_that_are_not_there_are_refused_one_by_one() -> None:
    broker = FakeBroker()
    assert described(broker, 2, "gone").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert described(broker, 2, "a/b").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert described(broker, 64, "1").error_code == ErrorCode.INVALID_REQUEST


def test_what_has_no_configs_here_is_described_by_none() -> None:
    """Groups, client metrics, loggers: tools that ask for everything go on."""
    for resource, name in ((32, "a-group"), (16, "metrics"), (8, "1")):
        answer = described(FakeBroker(), resource, name)
        assert (answer.error_code, answer.configs) == (0, []), resource
    for resource, name in ((32, ""), (16, ""), (8, "2")):
        assert described(FakeBroker(), resource, name).error_code == ErrorCode.INVALID_REQUEST


# --- FindCoordinator ------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 7))
def test_transactions_are_refused_for_good(version: int) -> None:
    request = FindCoordinatorRequest(key_type=1)
    if version < 4:
        request.key = "k"
    else:
        request.coordinator_keys = ["k", "l"]
    answer = ask(find_coordinator, FakeBroker(), request, version)
    answers = [answer] if version < 4 else answer.coordinators
    code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert [(a.error_code, a.node_id) for a in answers] == [(code, -1)] * len(answers)
    assert "not supported by kcluster yet" in answers[0].error_message
