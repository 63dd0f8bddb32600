"""What administrators do, by confluent-kafka's and kafka-python's admin clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_END,
    ElectionType,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)
from kafka import TopicPartition as PythonPartition
from kafka.admin import ConfigResource as PythonResource
from kafka.admin import ConfigResourceType, KafkaAdminClient, UpdateFeatureType
from kafka.errors import InvalidUpdateVersionError

from tests.live import killing
from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

TEN_S = 10.0


@pytest.fixture
def admin(cluster: LiveCluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def python_admin(cluster: LiveCluster) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(","))
    yield client
    client.close()


def write(cluster: LiveCluster, topic: str, count: int = 10, size: int = 5, **config: Any) -> None:
    """One batch for each record. Raises the first refusal."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", **config})
    for number in range(count):
        refusals: list[KafkaError] = []

        def delivered(
            error: KafkaError | None, _: Message, refusals: list[KafkaError] = refusals
        ) -> None:
            if error is not None:
                refusals.append(error)

        producer.produce(topic, b"%d".rjust(size, b" ") % number, on_delivery=delivered)
        assert producer.flush(TEN_S) == 0
        if refusals:
            raise KafkaException(refusals[0])


def alter(admin: AdminClient, topic: str, **values: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(TEN_S)


# --- DeleteRecords ----------------------------------------------------------------------------


def test_deleted_records_do_not_come_back_with_a_kill_of_all_brokers_or_another_leader(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    write(cluster, topic)
    [(_, future)] = admin.delete_records([TopicPartition(topic, 0, 6)]).items()
    assert future.result(TEN_S).low_watermark == 6
    assert [m.offset() for m in killing.read_all(cluster.bootstrap, topic)] == [6, 7, 8, 9]
    brokers = killing.KclusterBrokers(cluster.bootstrap, cluster.control)
    brokers.kill([1, 2, 3])
    brokers.start([1, 2, 3])
    killing.await_in_sync(cluster.bootstrap, topic, 3)
    assert [m.offset() for m in killing.read_all(cluster.bootstrap, topic)] == [6, 7, 8, 9]
    cluster.kill(cluster.leader(topic))
    cluster.wait(lambda _: cluster.leader(topic) > 0, "another leader")
    assert [m.offset() for m in killing.read_all(cluster.bootstrap, topic)] == [6, 7, 8, 9]


def test_all_records_are_deleted_by_offset_end_and_what_is_beyond_is_refused(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    write(cluster, topic)
    [(_, future)] = admin.delete_records([TopicPartition(topic, 0, 11)]).items()
    with pytest.raises(KafkaException) as refused:
        future.result(TEN_S)
    assert refused.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE
    [(_, future)] = admin.delete_records([TopicPartition(topic, 0, OFFSET_END)]).items()
    assert future.result(TEN_S).low_watermark == 10
    write(cluster, topic, 1)
    assert [m.offset() for m in killing.read_all(cluster.bootstrap, topic)] == [10]


def test_a_deletion_waits_for_a_paused_replica(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    write(cluster, topic)
    paused = next(id for id in (1, 2, 3) if id != cluster.leader(topic))
    cluster.pause(paused)
    wanted = [TopicPartition(topic, 0, 4)]
    [(_, future)] = admin.delete_records(wanted, operation_timeout=20).items()
    # Until it is fenced, after its session.
    assert future.result(TEN_S * 2).low_watermark == 4
    assert cluster.status().brokers[paused - 1].is_fenced
    cluster.resume(paused)


# --- configs ----------------------------------------------------------------------------------


def test_max_message_bytes_holds_from_the_moment_it_is_changed(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    write(cluster, topic, 1, size=5000)
    alter(admin, topic, max_message_bytes="2000")
    with pytest.raises(KafkaException) as refused:
        write(cluster, topic, 1, size=5000)
    assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    write(cluster, topic, 1, size=1000)
    alter(admin, topic, max_message_bytes="10000")
    write(cluster, topic, 1, size=5000)


def test_message_timestamp_type_says_whose_clock_stamps_records(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    created_ms = 1_700_000_000_000

    def write_one() -> None:
        producer.produce(topic, b"x", timestamp=created_ms)
        assert producer.flush(TEN_S) == 0

    write_one()
    alter(admin, topic, message_timestamp_type="LogAppendTime")
    before_ms = int(time.time() * 1000)
    write_one()
    alter(admin, topic, message_timestamp_type="CreateTime")
    write_one()
    create, append = 1, 2
    stamps = [m.timestamp() for m in killing.read_all(cluster.bootstrap, topic)]
    assert stamps[0] == stamps[2] == (create, created_ms)
    assert stamps[1][0] == append
    assert before_ms <= stamps[1][1] <= time.time() * 1000


@pytest.mark.parametrize(
    ("configs", "says"),
    [
        ({"retention.ms": "soon"}, "retention.ms must be a number"),
        ({"max.message.bytes": "-1"}, "max.message.bytes must be at least 0"),
        ({"message.timestamp.type": "MyTime"}, "CreateTime, LogAppendTime"),
        ({"no.such.config": "1"}, "unknown topic config no.such.config"),
    ],
)
def test_a_config_that_cannot_be_is_refused_in_words(
    admin: AdminClient, topic: str, configs: dict[str, str], says: str
) -> None:
    [creation] = admin.create_topics([NewTopic("never", 1, 1, config=configs)]).values()
    with pytest.raises(KafkaException, match=says) as refused:
        creation.result(TEN_S)
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    with pytest.raises(KafkaException, match=says) as refused:
        alter(admin, topic, **configs)
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_groups_loggers_and_client_metrics_have_no_configs(python_admin: Any) -> None:
    assert python_admin.describe_configs([PythonResource(ConfigResourceType.BROKER_LOGGER, "1")])
    listed = python_admin.list_config_resources()
    assert set(listed["broker"]) == {"1", "2", "3"}
    assert not {"group", "client_metrics"} & set(listed)


def test_a_broker_describes_itself_as_its_launcher_made_it(
    python_admin: Any, cluster: LiveCluster
) -> None:
    described = python_admin.describe_configs(
        [PythonResource(ConfigResourceType.BROKER, "2")], config_filter="all"
    )
    configs = described["broker"]["2"]
    bootstrap = cluster.bootstrap.split(",")[1]
    assert configs["advertised.listeners"]["value"] == f"PLAINTEXT://{bootstrap}"
    assert configs["listeners"]["value"] == f"PLAINTEXT://{bootstrap}"
    assert configs["node.id"]["value"] == configs["broker.id"]["value"] == "2"
    assert configs["log.dirs"]["value"] == str(cluster.directory / "broker-2")


# --- elections --------------------------------------------------------------------------------


def test_a_preferred_leader_is_elected_when_that_is_asked_for(
    cluster: LiveCluster, admin: AdminClient
) -> None:
    topic = cluster.topic(partitions=3)
    cluster.stop(1)
    cluster.start(1)
    cluster.wait_healthy()
    wanted = [TopicPartition(topic, index) for index in range(3)]
    elected = admin.elect_leaders(ElectionType.PREFERRED, wanted).result(TEN_S)
    codes = {each: error.code() if error is not None else 0 for each, error in elected.items()}
    assert set(codes.values()) <= {0, KafkaError.ELECTION_NOT_NEEDED}
    found = [part for part in cluster.status().partitions if part.topic == topic]
    assert [part.leader for part in found] == [part.replicas[0].broker for part in found]


def test_an_unclean_election_is_needed_by_nobody_who_is_led(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    elected = admin.elect_leaders(ElectionType.UNCLEAN, [TopicPartition(topic, 0)]).result(TEN_S)
    [error] = elected.values()
    assert error.code() == KafkaError.ELECTION_NOT_NEEDED


# --- looking ----------------------------------------------------------------------------------


def test_log_directories_tell_sizes_and_the_volume(
    cluster: LiveCluster, python_admin: Any, topic: str
) -> None:
    write(cluster, topic, 3)
    for described in python_admin.describe_log_dirs():
        [found] = described["log_dirs"]
        assert found["log_dir"] == str(cluster.directory / f"broker-{described['broker']}")
        assert 0 < found["usable_bytes"] < found["total_bytes"]
        [part] = next(t for t in found["topics"] if t["name"] == topic)["partitions"]
        assert part["partition_size"] > 0


def test_idempotent_producers_are_described(
    cluster: LiveCluster, python_admin: Any, topic: str
) -> None:
    write(cluster, topic, 3, **{"enable.idempotence": True})
    tp = PythonPartition(topic, 0)
    [state] = python_admin.describe_producers([tp])[tp].active_producers
    assert state.last_sequence == 2


def test_the_quorum_is_the_coordinator_with_brokers_as_observers(
    cluster: LiveCluster, python_admin: Any
) -> None:
    [topic] = python_admin.describe_metadata_quorum()["topics"]
    [part] = topic["partitions"]
    assert part["leader_id"] == 0
    assert [voter["replica_id"] for voter in part["current_voters"]] == [0]
    assert [observer["replica_id"] for observer in part["observers"]] == [1, 2, 3]
    assert all(o["log_end_offset"] <= part["high_watermark"] for o in part["observers"])


def test_offsets_are_listed_also_of_the_largest_timestamp(
    cluster: LiveCluster, admin: AdminClient, topic: str
) -> None:
    write(cluster, topic)
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10)):
        [future] = admin.list_offsets({TopicPartition(topic, 0): spec}).values()
        assert future.result(TEN_S).offset == offset
    [future] = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()}).values()
    assert 0 <= future.result(TEN_S).offset < 10


# --- what is not there ------------------------------------------------------------------------


def test_acls_are_refused_because_there_is_no_authorizer(admin: AdminClient, topic: str) -> None:
    acl = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ann", "*",
        AclOperation.READ, AclPermissionType.ALLOW,
    )  # fmt: skip
    [future] = admin.create_acls([acl]).values()
    with pytest.raises(KafkaException) as refused:
        future.result(TEN_S)
    assert refused.value.args[0].code() == KafkaError.SECURITY_DISABLED


def test_features_are_none_and_cannot_be_raised(python_admin: Any) -> None:
    assert python_admin.describe_features() == {}
    with pytest.raises(InvalidUpdateVersionError, match="does not have the feature"):
        python_admin.update_features({"group.version": (UpdateFeatureType.UPGRADE, 1)})


def test_internal_topics_are_not_made_by_asking_and_not_written_by_clients(
    cluster: LiveCluster, admin: AdminClient
) -> None:
    asking = Producer({"bootstrap.servers": cluster.bootstrap})
    found = asking.list_topics("__transaction_state", timeout=TEN_S).topics
    assert found["__transaction_state"].error is not None
    [creation] = admin.create_topics([NewTopic("__transaction_state", 1, 1)]).values()
    creation.result(TEN_S)
    try:
        with pytest.raises(KafkaException) as refused:
            write(cluster, "__transaction_state", 1, **{"message.timeout.ms": 5000})
        assert refused.value.args[0].code() == KafkaError.TOPIC_EXCEPTION
    finally:
        [deletion] = admin.delete_topics(["__transaction_state"]).values()
        deletion.result(TEN_S)
