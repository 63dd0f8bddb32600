"""Metadata (key 3): brokers, topics, leaders. The answer that every client steers by.

Versions 0-13: 1 controller and racks, 4 says whether topics may be created, 5 offline replicas,
7 leader epochs, 8-10 permitted operations, 10 topic ids in answers, 12 topics asked by id
(KIP-516), 13 an error for the whole request (KIP-1102). All topics are asked for by an empty
list in version 0 and by null afterwards, when an empty list means none.

Two answers are held for a short while, because a client that is told "not yet" backs off:

- Topics to be created automatically: the creation is forwarded to the controller, and the answer
  waits until this broker holds the new topics, or `CREATION_MS`.
- Topics asked for by name or id, led by others: whoever asks may just have lost a leader, and the
  election is due within milliseconds. No produce reply can carry its outcome when the leader that
  owed it is gone. So the leaders are asked whether they are there (see `neighbours.py`), and the
  answer waits for theirs or for their successors, at most `ELECTION_MS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import operations
from kcluster.core.metadata.topic_names import INTERNAL_TOPICS, topic_name_problem
from kcluster.errors import ErrorCode
from kcluster.model import NO_LEADER, ZERO_TOPIC_ID, TopicId
from kcluster.wire.apis import CREATE_TOPICS
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.metadata.image import TopicImage
    from kcluster.core.metadata.records import PartitionChanged
    from kcluster.core.turn import Turn

ELECTION_MS: Final = 50
"""How long an answer waits for the successor of a dead leader."""

CREATION_MS: Final = 1500
"""How long an answer waits for automatic creation: above the 1 s that the controller gives the
other brokers to apply it, below any client's request timeout."""

CREATE_TOPICS_VERSION: Final = 7


def handle(
    broker: BrokerCore, call: Call, request: MetadataRequest, turn: Turn
) -> MetadataResponse | None:
    version = call.header.api_version
    if _is_invalid(version, request):
        return _refused(request, ErrorCode.INVALID_REQUEST)
    missing = _to_create(broker, version, request)
    if missing:
        _create(broker, call, request, missing, turn)
        return None
    leaders = _doubtful_leaders(broker, version, request)
    if leaders:
        _answer_when_led(broker, call, request, leaders, turn)
        return None
    return respond(broker, version, request, turn)


def respond(
    broker: BrokerCore,
    version: int,
    request: MetadataRequest,
    turn: Turn,
    creation_errors: dict[str, int] | None = None,
) -> MetadataResponse:
    """The answer as of now. `creation_errors`: why topics could not be created, by name."""
    image = broker.image
    errors = creation_errors or {}
    topics: list[MetadataResponseTopic] = []
    asked_ids = _asked_ids(version, request)
    if _asks_all(version, request):
        topics = [_topic(broker, request, topic) for _, topic in sorted(image.topics.items())]
    elif asked_ids:
        for topic_id in asked_ids:
            topic = image.topic_by_id(topic_id)
            if topic is not None:
                topics.append(_topic(broker, request, topic))
            else:
                topics.append(_no_topic(ErrorCode.UNKNOWN_TOPIC_ID, None, topic_id))
    else:
        for name in _asked_names(request):
            topic = image.topics.get(name)
            if topic is not None:
                topics.append(_topic(broker, request, topic))
            else:
                topics.append(_no_topic(_why_missing(name, errors), name, ZERO_TOPIC_ID))
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(
                node_id=member.id, host=member.host, port=member.port, rack=member.rack
            )
            for member in broker.neighbours.listed(image, turn.now_ms)
        ],
        cluster_id=image.cluster_id or None,
        controller_id=operations.advertised_controller(broker),
        topics=topics,
        cluster_authorized_operations=operations.cluster_operations(
            request.include_cluster_authorized_operations
        ),
    )


# --- what is asked ------------------------------------------------------------------------


def _asks_all(version: int, request: MetadataRequest) -> bool:
    return request.topics is None or (version == 0 and not request.topics)


def _asked_names(request: MetadataRequest) -> list[str]:
    """Without repetitions, in the order of the request."""
    return list(
        dict.fromkeys(topic.name for topic in request.topics or () if topic.name is not None)
    )


def _asked_ids(version: int, request: MetadataRequest) -> list[bytes]:
    if version < 12:
        return []
    return list(
        dict.fromkeys(
            bytes(topic.topic_id)
            for topic in request.topics or ()
            if topic.topic_id != ZERO_TOPIC_ID
        )
    )


def _is_invalid(version: int, request: MetadataRequest) -> bool:
    """Names may be null, and ids given, only since they can be asked for."""
    if version >= 12:
        # With neither there is nothing to look for.
        return any(
            topic.name is None and topic.topic_id == ZERO_TOPIC_ID for topic in request.topics or ()
        )
    return any(
        topic.name is None or topic.topic_id != ZERO_TOPIC_ID for topic in request.topics or ()
    )


def _refused(request: MetadataRequest, code: ErrorCode) -> MetadataResponse:
    topics = [_no_topic(code, topic.name or "", topic.topic_id) for topic in request.topics or ()]
    return MetadataResponse(topics=topics, error_code=code)


# --- topics -------------------------------------------------------------------------------


def _topic(
    broker: BrokerCore, request: MetadataRequest, topic: TopicImage
) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=TopicId(topic.id),
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[_partition(broker, state) for _, state in sorted(topic.partitions.items())],
        topic_authorized_operations=operations.topic_operations(
            request.include_topic_authorized_operations
        ),
    )


def _partition(broker: BrokerCore, state: PartitionChanged) -> MetadataResponsePartition:
    image = broker.image
    leader = state.leader if not broker.is_dead(state.leader) else NO_LEADER
    return MetadataResponsePartition(
        error_code=ErrorCode.NONE if leader != NO_LEADER else ErrorCode.LEADER_NOT_AVAILABLE,
        partition_index=state.partition,
        leader_id=leader,
        leader_epoch=state.leader_epoch,
        replica_nodes=state.replicas,
        isr_nodes=state.isr,
        offline_replicas=[id for id in state.replicas if not image.is_alive(id)],
    )


def _no_topic(code: int, name: str | None, topic_id: bytes) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=code,
        name=name,
        topic_id=TopicId(topic_id),
        is_internal=name in INTERNAL_TOPICS,
        partitions=[],
    )


def _why_missing(name: str, creation_errors: dict[str, int]) -> int:
    if topic_name_problem(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return creation_errors.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


# --- what is held -------------------------------------------------------------------------


def _doubtful_leaders(broker: BrokerCore, version: int, request: MetadataRequest) -> set[int]:
    """Other brokers that lead what is asked for. A request for all topics is no sign of trouble:
    then only those count that are known to be dead."""
    if _asks_all(version, request) and not broker.has_dead():
        return set()
    leaders = {
        state.leader
        for topic in _asked_topics(broker, version, request)
        for state in topic.partitions.values()
    } - {broker.broker_id, NO_LEADER}
    if _asks_all(version, request):
        return {id for id in leaders if broker.is_dead(id)}
    return leaders


def _answer_when_led(
    broker: BrokerCore, call: Call, request: MetadataRequest, leaders: set[int], turn: Turn
) -> None:
    version = call.header.api_version
    neighbours = broker.neighbours
    question = neighbours.ask(turn, leaders)

    def is_led() -> bool:
        silent = neighbours.silent(question)
        return not silent or not any(
            state.leader in silent
            for topic in _asked_topics(broker, version, request)
            for state in topic.partitions.values()
        )

    def answer(later: Turn) -> None:
        neighbours.forget(question)
        call.answer(later, respond(broker, version, request, later))

    broker.hold(turn, ELECTION_MS, is_led, answer)


def _asked_topics(
    broker: BrokerCore, version: int, request: MetadataRequest
) -> Iterable[TopicImage]:
    image = broker.image
    if _asks_all(version, request):
        return list(image.topics.values())
    by_id = (image.topic_by_id(topic_id) for topic_id in _asked_ids(version, request))
    by_name = (image.topics.get(name) for name in _asked_names(request))
    return [topic for topics in (by_id, by_name) for topic in topics if topic is not None]


def _to_create(broker: BrokerCore, version: int, request: MetadataRequest) -> list[str]:
    """Names of topics that this request brings into being."""
    if _asks_all(version, request) or _asked_ids(version, request):
        return []
    if version >= 4 and not request.allow_auto_topic_creation:
        return []
    missing = [name for name in _asked_names(request) if name not in broker.image.topics]
    if not missing or not broker.settings.bool("auto.create.topics.enable"):
        return []
    # Internal topics are made by whoever needs them, with settings of their own.
    return [
        name for name in missing if name not in INTERNAL_TOPICS and topic_name_problem(name) is None
    ]


def _create(
    broker: BrokerCore, call: Call, request: MetadataRequest, names: list[str], turn: Turn
) -> None:
    version = call.header.api_version
    creation = CreateTopicsRequest(
        topics=[
            CreatableTopic(
                name=name, num_partitions=-1, replication_factor=-1, assignments=[], configs=[]
            )
            for name in names
        ],
        timeout_ms=CREATION_MS,
    )

    def answer(later: Turn, error: int, body: memoryview | None) -> None:
        errors = dict.fromkeys(names, int(ErrorCode.LEADER_NOT_AVAILABLE))
        if error == ErrorCode.NONE and body is not None:
            created = decode(CreateTopicsResponse, body, CREATE_TOPICS_VERSION)
            for topic in created.topics:
                if topic.error_code not in _SOON:
                    errors[topic.name] = topic.error_code
        soon = [name for name in names if errors[name] == ErrorCode.LEADER_NOT_AVAILABLE]
        # Another client's creation may be on its way to this broker: worth a moment.
        broker.hold(
            later,
            ELECTION_MS,
            lambda: all(name in broker.image.topics for name in soon),
            lambda held: call.answer(held, respond(broker, version, request, held, errors)),
        )

    broker.forward(
        turn,
        CREATE_TOPICS,
        CREATE_TOPICS_VERSION,
        encode(creation, CREATE_TOPICS_VERSION),
        call.header.client_id,
        CREATION_MS,
        answer,
    )


_SOON: Final = frozenset(
    {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.REQUEST_TIMED_OUT}
)
"""Outcomes of a creation after which asking again will find the topic."""
