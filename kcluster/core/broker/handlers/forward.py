"""What only the controller decides, and whose answer is passed on as it comes (KIP-590):
CreateTopics, DeleteTopics, AlterConfigs, CreatePartitions, ElectLeaders, IncrementalAlterConfigs,
AlterPartitionReassignments, AlterClientQuotas, DescribeQuorum, UpdateFeatures, UnregisterBroker
(keys 19, 20, 33, 37, 43, 44, 45, 49, 55, 57, 64).

The request was decoded once here, so that bytes that are none never reach the coordinator, and
so that a timeout can be answered for everything that was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kcluster.errors import ErrorCode
from kcluster.wire.apis import APIS
from kcluster.wire.message import Message, decode
from kcluster.wire.messages import (
    alter_client_quotas,
    alter_configs,
    alter_partition_reassignments,
    create_partitions,
    create_topics,
    delete_topics,
    describe_quorum,
    elect_leaders,
    incremental_alter_configs,
    unregister_broker,
    update_features,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

CONFIGS_TIMEOUT_MS: Final = 5000
"""For requests that bring no timeout of their own."""

LONGEST_MS: Final = 300_000


def handle(broker: BrokerCore, call: Call, request: Any, turn: Turn) -> None:
    timeout_ms = getattr(request, "timeout_ms", CONFIGS_TIMEOUT_MS)

    def done(later: Turn, error: int, body: memoryview | None) -> None:
        if body is not None and call.metered is not None:
            # There is something to be said in it.
            version = call.header.api_version
            call.answer(later, decode(APIS[call.header.api_key].response, body, version))
        elif body is not None:
            call.answer_parts(later, [bytes(body)])
        else:
            call.answer(later, refusal(request, error))

    header = call.header
    broker.forward(
        turn,
        header.api_key,
        header.api_version,
        call.body,
        header.client_id,
        min(max(timeout_ms, 0), LONGEST_MS),
        done,
    )


def refusal(request: Any, code: int) -> Message:
    """The response that gives everything that was asked for this error."""
    match request:
        case create_topics.CreateTopicsRequest():
            return create_topics.CreateTopicsResponse(
                topics=[
                    create_topics.CreatableTopicResult(
                        name=topic.name, error_code=code, error_message=_message(code)
                    )
                    for topic in request.topics
                ]
            )
        case delete_topics.DeleteTopicsRequest():
            return delete_topics.DeleteTopicsResponse(
                responses=[
                    delete_topics.DeletableTopicResult(name=name, error_code=code)
                    for name in request.topic_names
                ]
                + [
                    delete_topics.DeletableTopicResult(
                        name=topic.name, topic_id=topic.topic_id, error_code=code
                    )
                    for topic in request.topics
                ]
            )
        case create_partitions.CreatePartitionsRequest():
            return create_partitions.CreatePartitionsResponse(
                results=[
                    create_partitions.CreatePartitionsTopicResult(
                        name=topic.name, error_code=code, error_message=_message(code)
                    )
                    for topic in request.topics
                ]
            )
        case alter_configs.AlterConfigsRequest():
            return alter_configs.AlterConfigsResponse(
                responses=_resources(alter_configs.AlterConfigsResourceResponse, request, code)
            )
        case incremental_alter_configs.IncrementalAlterConfigsRequest():
            one = incremental_alter_configs.AlterConfigsResourceResponse
            return incremental_alter_configs.IncrementalAlterConfigsResponse(
                responses=_resources(one, request, code)
            )
        case alter_client_quotas.AlterClientQuotasRequest():
            return alter_client_quotas.AlterClientQuotasResponse(
                entries=[
                    alter_client_quotas.EntryData(
                        error_code=code, error_message=_message(code), entity=entry.entity
                    )
                    for entry in request.entries
                ]
            )
        case elect_leaders.ElectLeadersRequest():
            # Version 0 has no error for all, and a null list names nothing to answer for: its
            # client waits for metadata anyway.
            return elect_leaders.ElectLeadersResponse(
                error_code=code,
                replica_election_results=[
                    elect_leaders.ReplicaElectionResult(
                        topic=topic.topic,
                        partition_result=[
                            elect_leaders.PartitionResult(
                                partition_id=index, error_code=code, error_message=_message(code)
                            )
                            for index in topic.partitions
                        ],
                    )
                    for topic in request.topic_partitions or ()
                ],
            )
        case alter_partition_reassignments.AlterPartitionReassignmentsRequest():
            return alter_partition_reassignments.AlterPartitionReassignmentsResponse(
                allow_replication_factor_change=request.allow_replication_factor_change,
                error_code=code,
                error_message=_message(code),
            )
        case describe_quorum.DescribeQuorumRequest():
            return describe_quorum.DescribeQuorumResponse(
                error_code=code, error_message=_message(code)
            )
        case update_features.UpdateFeaturesRequest():
            return update_features.UpdateFeaturesResponse(
                error_code=code, error_message=_message(code)
            )
        case unregister_broker.UnregisterBrokerRequest():
            return unregister_broker.UnregisterBrokerResponse(
                error_code=code, error_message=_message(code)
            )
        case _:
            raise AssertionError(f"{type(request).__name__} is not forwarded")


def _resources(one: type[Any], request: Any, code: int) -> list[Any]:
    """Of AlterConfigs and IncrementalAlterConfigs, whose results are alike but for the class."""
    return [
        one(
            error_code=code,
            error_message=_message(code),
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource in request.resources
    ]


def _message(code: int) -> str:
    if code == ErrorCode.REQUEST_TIMED_OUT:
        return "the controller did not answer in time: whether it was done is not known"
    return ErrorCode(code).name
