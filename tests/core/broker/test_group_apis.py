"""Every API of groups in each version, with a real broker."""

from __future__ import annotations

import pytest

from kcluster.config import BROKER_KNOBS, TOPIC_KNOBS
from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, OFFSETS_TOPIC, TopicId
from kcluster.wire import bus
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.create_topics import (
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.delete_groups import DeleteGroupsRequest
from kcluster.wire.messages.describe_groups import DescribeGroupsRequest
from kcluster.wire.messages.find_coordinator import FindCoordinatorRequest
from kcluster.wire.messages.heartbeat import HeartbeatRequest
from kcluster.wire.messages.join_group import JoinGroupRequest
from kcluster.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kcluster.wire.messages.list_groups import ListGroupsRequest
from kcluster.wire.messages.offset_commit import (
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kcluster.wire.messages.offset_fetch import (
    OffsetFetchRequest,
)
from kcluster.wire.messages.sync_group import SyncGroupRequestAssignment
from tests.core.broker.groups_stage import (
    OFFSETS_ID,
    Groups,
    commit,
    delete,
    fetch,
    join,
    member,
    sync,
    versions,
)
from tests.core.broker.stage import TOPIC_ID, Stage

# --- every version ------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(11))
def test_a_group_of_one_is_joined_in_each_version(version: int) -> None:
    groups = Groups()
    answer = groups.ask(join(), version)
    if version >= 4:
        assert (answer.error_code, answer.protocol_name) == (
            ErrorCode.MEMBER_ID_REQUIRED,
            None if version >= 7 else "",
        )
        answer = groups.ask(join(answer.member_id), version)
    assert (answer.error_code, answer.generation_id, answer.protocol_name) == (0, 1, "range")
    assert answer.protocol_type == ("consumer" if version >= 7 else None)
    assert answer.leader == answer.member_id
    assert [each.member_id for each in answer.members] == [answer.member_id]
    assert not answer.skip_assignment


@pytest.mark.parametrize("version", versions(11))
@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (join(group=""), ErrorCode.INVALID_GROUP_ID),
        (join(session_timeout_ms=1), ErrorCode.INVALID_SESSION_TIMEOUT),
        (join("who"), ErrorCode.UNKNOWN_MEMBER_ID),
        (join(protocols=[]), ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
def test_a_refused_join_says_why_in_each_version(
    version: int, request_: JoinGroupRequest, error: ErrorCode
) -> None:
    answer = Groups().ask(request_, version)
    assert (answer.error_code, answer.generation_id, answer.members) == (error, -1, [])
    assert answer.protocol_name == (None if version >= 7 else "")
    assert answer.member_id == request_.member_id


@pytest.mark.parametrize("version", versions(14))
def test_an_assignment_is_handed_out_in_each_version(version: int) -> None:
    groups = Groups()
    id = groups.ask(join(), 3).member_id
    given = [SyncGroupRequestAssignment(member_id=id, assignment=b"mine")]
    answer = groups.ask(sync(id, version=version, assignments=given), version)
    assert (answer.error_code, answer.assignment) == (0, b"mine")
    assert answer.protocol_name == ("range" if version >= 5 else None)
    refused = groups.ask(sync("who", version=version), version)
    assert (refused.error_code, refused.assignment) == (ErrorCode.UNKNOWN_MEMBER_ID, b"")
    assert refused.protocol_name is None


def test_from_version_5_on_a_sync_names_its_protocol() -> None:
    groups = Groups()
    id = groups.ask(join(), 3).member_id
    for type, name in ((None, "range"), ("consumer", None), ("", "")):
        request = sync(id, version=4)
        request.protocol_type, request.protocol_name = type, name
        answer = groups.ask(request, 5)
        assert answer.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("version", versions(12))
def test_a_member_beats_in_each_version(version: int) -> None:
    groups = Groups()
    id = member(groups)
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=id)
    assert groups.ask(beat, version).error_code == 0
    beat.generation_id = 2
    assert groups.ask(beat, version).error_code == ErrorCode.ILLEGAL_GENERATION
    beat.group_id = ""
    assert groups.ask(beat, version).error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize("version", versions(13))
def test_a_member_leaves_in_each_version(version: int) -> None:
    groups = Groups()
    id = member(groups)
    if version < 3:
        leave = LeaveGroupRequest(group_id="g", member_id=id)
        outcomes = [groups.ask(leave, version).error_code for _ in range(2)]
        assert outcomes == [0, ErrorCode.UNKNOWN_MEMBER_ID]
        return
    leave = LeaveGroupRequest(
        group_id="g", members=[MemberIdentity(member_id=id), MemberIdentity(member_id="who")]
    )
    answer = groups.ask(leave, version)
    assert answer.error_code == 0
    assert [(each.member_id, each.error_code) for each in answer.members] == [
        (id, 0),
        ("who", ErrorCode.UNKNOWN_MEMBER_ID),
    ]
    assert answer.members[0].group_instance_id is None
    assert groups.shard().groups["g"].state.value == "Empty"


@pytest.mark.parametrize("version", versions(8))
def test_an_offset_is_committed_in_each_version(version: int) -> None:
    groups = Groups()
    answer = groups.ask(commit(version), version)
    [topic] = answer.topics
    assert [(p.partition_index, p.error_code) for p in topic.partitions] == [(0, 0)]
    assert topic.name == ("orders" if version < 10 else "")
    assert bytes(topic.topic_id) == (TOPIC_ID if version >= 10 else bytes(16))
    assert groups.offset() == 5


@pytest.mark.parametrize("version", versions(8))
def test_a_generation_of_no_group_is_refused_as_each_version_has_it(version: int) -> None:
    groups = Groups()
    request = commit(version)
    request.generation_id_or_member_epoch, request.member_id = 3, "who"
    [topic] = groups.ask(request, version).topics
    expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
    assert [p.error_code for p in topic.partitions] == [expected]


@pytest.mark.parametrize("version", [2, 3, 4, 5, 9])
def test_an_offset_with_a_retention_of_its_own_expires_by_it(version: int) -> None:
    groups = Groups()
    request = commit(version)
    request.retention_time_ms = 1000
    groups.ask(request, version)
    core = groups.stage[1].core
    groups.stage.wait(2000)
    core.groups.expire(groups.stage[1].turn)
    groups.stage[1].run()
    groups.settle()
    assert groups.offset() == (-1 if version <= 4 else 5)


@pytest.mark.parametrize("version", versions(8))
def test_partitions_that_cannot_be_committed_do_not_keep_others_back(version: int) -> None:
    groups = Groups(offset_metadata_max_bytes="4")
    request = commit(version)
    [topic] = request.topics
    topic.partitions += [
        OffsetCommitRequestPartition(partition_index=7, committed_offset=1),
        OffsetCommitRequestPartition(
            partition_index=1, committed_offset=1, committed_metadata="12345"
        ),
        OffsetCommitRequestPartition(partition_index=1, committed_offset=-5),
    ]
    missing = OffsetCommitRequestTopic(partitions=list(topic.partitions[:1]))
    if version >= 10:
        missing.topic_id = TopicId(bytes(15) + b"x")
    else:
        missing.name = "nothing"
    request.topics.append(missing)
    answer = groups.ask(request, version)
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert [[p.error_code for p in topic.partitions] for topic in answer.topics] == [
        [
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.OFFSET_METADATA_TOO_LARGE,
            ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
        ],
        [unknown],
    ]
    assert groups.offset() == 5


@pytest.mark.parametrize("version", versions(9))
def test_offsets_are_fetched_in_each_version(version: int) -> None:
    groups = Groups()
    groups.ask(commit(), 9)
    answer = groups.ask(fetch(version, indexes=(0, 1)), version)
    topics = answer.topics if version < 8 else answer.groups[0].topics
    assert [
        (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code)
        for p in topics[0].partitions
    ] == [(0, 5, -1, "note", 0), (1, -1, -1, "", 0)]


@pytest.mark.parametrize("version", versions(9)[1:])
def test_without_topics_all_offsets_are_fetched(version: int) -> None:
    groups = Groups()
    groups.ask(commit(), 9)
    request = fetch(version)
    if version < 8:
        request.topics = None
    else:
        request.groups[0].topics = None
    answer = groups.ask(request, version)
    [topic] = answer.topics if version < 8 else answer.groups[0].topics
    assert topic.name == ("orders" if version < 10 else "")
    assert [p.committed_offset for p in topic.partitions] == [5]
    if version >= 10:
        assert bytes(topic.topic_id) == TOPIC_ID


@pytest.mark.parametrize("version", versions(9))
def test_of_a_group_that_is_not_there_nothing_is_committed(version: int) -> None:
    answer = Groups().ask(fetch(version, "none"), version)
    topics = answer.topics if version < 8 else answer.groups[0].topics
    assert [(p.committed_offset, p.error_code) for p in topics[0].partitions] == [(-1, 0)]


def test_offsets_of_many_groups_are_fetched_at_once() -> None:
    groups = Groups()
    groups.ask(commit(), 9)
    request = OffsetFetchRequest(groups=[*fetch(9, "h").groups, *fetch(9).groups])
    answer = groups.ask(request, 9)
    told = [(g.group_id, g.topics[0].partitions[0].committed_offset) for g in answer.groups]
    assert told == [("h", -1), ("g", 5)]
    assert groups.ask(OffsetFetchRequest(groups=[]), 9).groups == []


def test_an_unknown_topic_id_is_said_of_each_partition() -> None:
    request = fetch(10)
    request.groups[0].topics[0].topic_id = TopicId(bytes(15) + b"x")  # type: ignore[index]
    answer = Groups().ask(request, 10)
    [part] = answer.groups[0].topics[0].partitions
    assert (part.error_code, part.committed_offset) == (ErrorCode.UNKNOWN_TOPIC_ID, -1)


def test_offsets_are_deleted_where_nobody_subscribes() -> None:
    groups = Groups()
    assert groups.ask(delete(), 0).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    groups.ask(commit(), 9)
    answer = groups.ask(delete("orders", 0, 1, 7), 0)
    assert answer.error_code == 0
    assert [p.error_code for p in answer.topics[0].partitions] == [
        0,
        0,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert groups.offset() == -1
    member(groups)
    answer = groups.ask(delete(), 0)
    [part] = answer.topics[0].partitions
    assert part.error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC


@pytest.mark.parametrize("version", versions(16))
def test_groups_are_listed_in_each_version(version: int) -> None:
    groups = Groups()
    member(groups)
    groups.ask(commit(group_id="h"), 9)
    answer = groups.ask(ListGroupsRequest(), version)
    assert answer.error_code == 0
    assert [(g.group_id, g.protocol_type) for g in answer.groups] == [("g", "consumer"), ("h", "")]
    if version >= 4:
        assert [g.group_state for g in answer.groups] == ["Stable", "Empty"]
        answer = groups.ask(ListGroupsRequest(states_filter=["sTABLE"]), version)
        assert [g.group_id for g in answer.groups] == ["g"]
    if version >= 5:
        assert [g.group_type for g in answer.groups] == ["classic"]
        answer = groups.ask(ListGroupsRequest(types_filter=["consumer"]), version)
        assert answer.groups == []
        answer = groups.ask(ListGroupsRequest(types_filter=["Classic"]), version)
        assert len(answer.groups) == 2


@pytest.mark.parametrize("version", versions(15))
def test_groups_are_described_in_each_version(version: int) -> None:
    groups = Groups()
    id = member(groups)
    groups.ask(commit(group_id="h"), 9)
    request = DescribeGroupsRequest(groups=["g", "h", "none"])
    request.include_authorized_operations = version >= 3
    answer = groups.ask(request, version)
    g, h, none = answer.groups
    assert (g.error_code, g.group_id, g.group_state) == (0, "g", "Stable")
    assert (g.protocol_type, g.protocol_data) == ("consumer", "range")
    [described] = g.members
    assert (described.member_id, described.client_id, described.client_host) == (
        id,
        "test",
        "/127.0.0.1",
    )
    assert described.member_assignment == b"mine"
    assert described.member_metadata
    assert (g.authorized_operations > 0) is (version >= 3)
    assert (h.group_state, h.protocol_type, h.members) == ("Empty", "", [])
    assert none.group_state == "Dead"
    assert none.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
    assert groups.ask(DescribeGroupsRequest(groups=[]), version).groups == []


def test_until_a_group_is_stable_nothing_of_its_members_is_settled() -> None:
    groups = Groups()
    groups.ask(join(), 3)
    [described] = groups.ask(DescribeGroupsRequest(groups=["g"]), 5).groups
    assert (described.group_state, described.protocol_data) == ("CompletingRebalance", "")
    [one] = described.members
    assert (one.member_metadata, one.member_assignment) == (b"", b"")


@pytest.mark.parametrize("version", versions(42))
def test_groups_are_deleted_in_each_version(version: int) -> None:
    groups = Groups()
    member(groups)
    groups.ask(commit(group_id="h"), 9)
    names = ["g", "h", "h", "none"]
    answer = groups.ask(DeleteGroupsRequest(groups_names=names), version)
    not_found = ErrorCode.GROUP_ID_NOT_FOUND
    assert [(each.group_id, each.error_code) for each in answer.results] == [
        ("g", ErrorCode.NON_EMPTY_GROUP),
        ("h", 0),
        ("h", not_found),
        ("none", not_found),
    ]
    assert [g.group_id for g in groups.ask(ListGroupsRequest(), 4).groups] == ["g"]
    assert groups.ask(DeleteGroupsRequest(groups_names=[]), version).results == []


# --- FindCoordinator ----------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(10))
def test_a_groups_coordinator_leads_its_partition(version: int) -> None:
    groups = Groups(3, leader=2)
    request = FindCoordinatorRequest(key="g", coordinator_keys=["g", "h"])
    if version < 4:
        request.coordinator_keys = []
    else:
        request.key = ""
    answer = groups.ask(request, version)
    found = [answer] if version < 4 else answer.coordinators
    assert [(each.error_code, each.node_id, each.port) for each in found] == [(0, 2, 9092)] * (
        1 if version < 4 else 2
    )
    if version >= 4:
        assert [each.key for each in found] == ["g", "h"]


def test_a_type_of_coordinator_that_is_not_known_is_refused() -> None:
    answer = Groups().ask(FindCoordinatorRequest(key_type=2, coordinator_keys=["g"]), 6)
    [found] = answer.coordinators
    assert found.error_code == ErrorCode.INVALID_REQUEST


def test_the_segments_of_the_offsets_topic_may_be_what_those_of_any_topic_may_be() -> None:
    """Or the controller would refuse to create it, when the first group comes."""
    assert BROKER_KNOBS["offsets.topic.segment.bytes"].low == TOPIC_KNOBS["segment.bytes"].low


def test_the_first_question_creates_the_topic_and_waits_until_it_is_led() -> None:
    stage = Stage(2)
    one = stage[1]
    one.asks(FindCoordinatorRequest(key="g"), 3, 1, 1)
    one.asks(FindCoordinatorRequest(coordinator_keys=["g"]), 4, 2, 2)
    assert one.answers() == []
    [forward] = one.heard(bus.Forward)
    [body] = stage.payloads[-1]
    created = decode(CreateTopicsRequest, body, forward.api_version)
    [topic] = created.topics
    assert (topic.name, topic.num_partitions, topic.replication_factor) == (OFFSETS_TOPIC, 12, 2)
    configs = {config.name: config.value for config in topic.configs}
    # The last word on an offset is kept, however old it is.
    assert configs["cleanup.policy"] == "compact"
    response = CreateTopicsResponse(topics=[CreatableTopicResult(name=OFFSETS_TOPIC)])
    one.hears(
        COORDINATOR,
        bus.Forwarded(forward.correlation),
        encode(response, forward.api_version),
    )
    stage.dictate(
        r.TopicCreated(OFFSETS_TOPIC, OFFSETS_ID),
        *[r.PartitionChanged(OFFSETS_ID, index, [2], [2], 2, 0, 0) for index in range(12)],
    )
    first, second = one.answers()
    assert (first.error_code, first.node_id) == (0, 2)
    assert [each.node_id for each in second.coordinators] == [2]


def test_a_topic_that_cannot_be_created_is_said_with_its_reason_and_asked_for_again() -> None:
    stage = Stage(1)
    one = stage[1]
    one.asks(FindCoordinatorRequest(key="g"), 3)
    [forward] = one.heard(bus.Forward)
    told = CreatableTopicResult(
        name=OFFSETS_TOPIC, error_code=ErrorCode.POLICY_VIOLATION, error_message="too many"
    )
    one.hears(
        COORDINATOR,
        bus.Forwarded(forward.correlation),
        encode(CreateTopicsResponse(topics=[told]), forward.api_version),
    )
    stage.wait(2_500)
    answer = one.answer()
    assert (answer.error_code, answer.node_id) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1)
    assert "too many" in answer.error_message
    one.asks(FindCoordinatorRequest(key="g"), 3)
    assert len(one.heard(bus.Forward)) == 1
