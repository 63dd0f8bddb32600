"""What administration asks a broker about itself: directories, producers, resources, ACLs."""

from __future__ import annotations

import pytest

from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.wire.messages import create_acls, delete_acls, describe_acls
from kcluster.wire.messages import describe_log_dirs as dirs
from kcluster.wire.messages import describe_producers as producers
from kcluster.wire.messages import list_config_resources as resources
from kcluster.wire.messages import list_partition_reassignments as reassignments
from kcluster.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from kcluster.wire.messages.metadata import MetadataRequest

from .stage import Stage, batch, produce, produced


@pytest.fixture
def stage() -> Stage:
    stage = Stage(2)
    stage.create([1, 2])
    stage.deliver()
    return stage


# --- DescribeLogDirs --------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 6))
def test_the_log_directory_is_described_with_sizes_and_volume(stage: Stage, version: int) -> None:
    stage[1].disk.capacity_bytes = 1_000_000
    stage[1].asks(produce(b"a", b"b", acks=1), 9)
    stage[1].answers()
    stage[1].asks(dirs.DescribeLogDirsRequest(topics=None), version)
    answer = stage[1].answer()
    [result] = answer.results
    [topic] = result.topics
    [part] = topic.partitions
    assert (result.error_code, result.log_dir, topic.name) == (0, "/sim", "orders")
    assert part.partition_size == stage[1].log.size_bytes > 0
    assert not part.is_future_key
    if version >= 4:
        used = stage[1].disk.used_bytes()
        assert (result.total_bytes, result.usable_bytes) == (1_000_000, 1_000_000 - used)


def test_the_lag_of_a_follower_is_how_far_it_is_behind_what_is_committed(stage: Stage) -> None:
    stage[1].asks(produce(b"a", b"b", b"c"), 9)
    stage.deliver()
    stage.wait(50)
    follower = stage[2].replica
    follower.follower.leader_high_watermark = 8
    stage[2].asks(dirs.DescribeLogDirsRequest(topics=None), 4)
    [result] = stage[2].answer().results
    assert result.topics[0].partitions[0].offset_lag == 5
    stage[1].answers()
    stage[1].asks(dirs.DescribeLogDirsRequest(topics=None), 4)
    assert stage[1].answer().results[0].topics[0].partitions[0].offset_lag == 0


def test_only_the_partitions_that_are_asked_for_and_here_are_described(stage: Stage) -> None:
    asked = [dirs.DescribableLogDirTopic(topic="orders", partitions=[0, 9])]
    asked.append(dirs.DescribableLogDirTopic(topic="gone", partitions=[0]))
    stage[1].asks(dirs.DescribeLogDirsRequest(topics=asked), 4)
    [result] = stage[1].answer().results
    assert [(t.name, [p.partition_index for p in t.partitions]) for t in result.topics] == [
        ("orders", [0])
    ]


# --- DescribeProducers ------------------------------------------------------------------------


def ask_producers(topic: str = "orders", partition: int = 0) -> producers.DescribeProducersRequest:
    wanted = producers.TopicRequest(name=topic, partition_indexes=[partition])
    return producers.DescribeProducersRequest(topics=[wanted])


def test_producers_are_described_by_their_last_batch(stage: Stage) -> None:
    for sequence in (0, 2):
        data = batch(b"x", b"y", producer_id=77, producer_epoch=3, base_sequence=sequence)
        stage[1].asks(produce(data=data), 9)
        stage.deliver()
    assert [produced(answer).error_code for answer in stage[1].answers()] == [0, 0]
    for id in (1, 2):
        stage[id].asks(ask_producers(), 0)
        [part] = stage[id].answer().topics[0].partitions
        [state] = part.active_producers
        assert (state.producer_id, state.producer_epoch, state.last_sequence) == (77, 3, 3)
        assert state.last_timestamp == 1_700_000_000_000
        assert (state.coordinator_epoch, state.current_txn_start_offset) == (-1, -1)


def test_producers_of_what_is_not_here_are_refused(stage: Stage) -> None:
    stage[1].asks(ask_producers("gone"), 0)
    [part] = stage[1].answer().topics[0].partitions
    assert part.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    stage.dictate(
        r.PartitionChanged(stage.state.topic_id, 1, [2], [2], 2, 0, 0)  # type: ignore[union-attr]
    )
    stage[1].asks(ask_producers(partition=1), 0)
    [part] = stage[1].answer().topics[0].partitions
    assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


# --- ListConfigResources ----------------------------------------------------------------------


def listed(stage: Stage, types: list[int], version: int = 1) -> object:
    stage[1].asks(resources.ListConfigResourcesRequest(resource_types=types), version)
    answer = stage[1].answer()
    found = [(each.resource_type, each.resource_name) for each in answer.config_resources]
    return answer.error_code or found


def test_topics_and_brokers_have_configs_and_nothing_else(stage: Stage) -> None:
    both = [(2, "orders"), (4, "1"), (4, "2"), (8, "1"), (8, "2")]
    assert listed(stage, []) == both
    assert listed(stage, [2]) == [(2, "orders")]
    assert listed(stage, [16, 32]) == []


def test_version_0_knows_client_metrics_only(stage: Stage) -> None:
    assert listed(stage, [], version=0) == []


def test_an_unknown_type_of_resource_is_refused(stage: Stage) -> None:
    assert listed(stage, [2, 3]) == ErrorCode.UNSUPPORTED_VERSION


# --- ListPartitionReassignments ---------------------------------------------------------------


def test_no_partition_is_being_reassigned(stage: Stage) -> None:
    wanted = reassignments.ListPartitionReassignmentsTopics(name="orders", partition_indexes=[0])
    for topics in (None, [], [wanted]):
        stage[1].asks(reassignments.ListPartitionReassignmentsRequest(topics=topics), 0)
        answer = stage[1].answer()
        assert (answer.error_code, answer.error_message, answer.topics) == (0, None, [])


# --- ACLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
def test_acls_are_refused_as_by_a_kafka_without_an_authorizer(stage: Stage, version: int) -> None:
    broker = stage[1]
    broker.asks(describe_acls.DescribeAclsRequest(), version)
    assert broker.answer().error_code == ErrorCode.SECURITY_DISABLED
    broker.asks(create_acls.CreateAclsRequest(creations=[create_acls.AclCreation()] * 2), version)
    assert [result.error_code for result in broker.answer().results] == [54, 54]
    broker.asks(delete_acls.DeleteAclsRequest(filters=[delete_acls.DeleteAclsFilter()]), version)
    [result] = broker.answer().filter_results
    assert (result.error_code, result.matching_acls) == (ErrorCode.SECURITY_DISABLED, [])


# --- internal topics --------------------------------------------------------------------------

OFFSETS_ID = b"offsets-topic-id"


def test_internal_topics_are_called_internal(stage: Stage) -> None:
    stage.dictate(
        r.TopicCreated("__consumer_offsets", OFFSETS_ID),
        r.PartitionChanged(OFFSETS_ID, 0, [1], [1], 1, 0, 0),
    )
    for request, version in (
        (MetadataRequest(topics=None), 12),
        (DescribeTopicPartitionsRequest(topics=[]), 0),
    ):
        stage[1].asks(request, version)
        stage.wait(60)
        topics = stage[1].answer().topics
        assert {topic.name: topic.is_internal for topic in topics} == {
            "__consumer_offsets": True,
            "orders": False,
        }


def test_clients_do_not_write_to_internal_topics(stage: Stage) -> None:
    stage.dictate(
        r.TopicCreated("__consumer_offsets", OFFSETS_ID),
        r.PartitionChanged(OFFSETS_ID, 0, [1], [1], 1, 0, 0),
    )
    for version in (9, 13):
        request = produce(b"mine")
        request.topic_data[0].name = "__consumer_offsets"
        request.topic_data[0].topic_id = OFFSETS_ID
        stage[1].asks(request, version)
        part = produced(stage[1].answer())
        assert part.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
