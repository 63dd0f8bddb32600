"""DeleteTopics (20), versions 1-6: by name, from version 6 also by id; each on its own.

A topic that a request names twice (also once by name and once by id) is refused, as in Kafka.
`delete.topic.enable=false` refuses all.
"""

from __future__ import annotations

from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata import records as r
from kcluster.core.traces import TopicDeleted
from kcluster.errors import ErrorCode
from kcluster.model import ZERO_TOPIC_ID, TopicId
from kcluster.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)


def decide(deciding: Deciding, request: DeleteTopicsRequest, version: int) -> DeleteTopicsResponse:
    wanted = request.topics if version >= 6 else [_named(name) for name in request.topic_names]
    meant = [_meant(deciding, topic) for topic in wanted]
    results = []
    for topic, (name, id, error) in zip(wanted, meant, strict=True):
        message = ""
        if not deciding.settings.bool("delete.topic.enable"):
            # Version 3 is the first whose clients know the code.
            error = ErrorCode.TOPIC_DELETION_DISABLED if version >= 3 else ErrorCode.INVALID_REQUEST
            message = "delete.topic.enable is false."
        elif not error and sum(other == id for _, other, _ in meant) > 1:
            error, message = ErrorCode.INVALID_REQUEST, "The topic is named more than once."
        if error:
            results.append(
                DeletableTopicResult(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    error_code=error,
                    error_message=message or _MESSAGES[error],
                )
            )
            continue
        deciding.decision.add(r.TopicDeleted(id))
        deciding.decision.trace(TopicDeleted(name))
        results.append(DeletableTopicResult(name=name, topic_id=TopicId(id)))
    return DeleteTopicsResponse(responses=results)


_MESSAGES = {
    ErrorCode.INVALID_REQUEST: "A topic is deleted by its name or by its id.",
    ErrorCode.UNKNOWN_TOPIC_ID: "There is no topic with this id.",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "There is no topic with this name.",
}


def _named(name: str) -> DeleteTopicState:
    return DeleteTopicState(name=name)


def _meant(deciding: Deciding, topic: DeleteTopicState) -> tuple[str, bytes, ErrorCode]:
    has_id = topic.topic_id != ZERO_TOPIC_ID
    if (topic.name is not None) == has_id:
        return "", b"", ErrorCode.INVALID_REQUEST
    if has_id:
        by_id = deciding.image.topic_by_id(topic.topic_id)
        if by_id is None:
            return "", b"", ErrorCode.UNKNOWN_TOPIC_ID
        return by_id.name, by_id.id, ErrorCode.NONE
    by_name = deciding.image.topics.get(topic.name or "")
    if by_name is None:
        return "", b"", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return by_name.name, by_name.id, ErrorCode.NONE
