"""FindCoordinator (key 10): which broker coordinates a group.

Versions 0-6: 1 adds the key's type and messages, 4 asks for several keys at once (KIP-699). A
group's coordinator is the leader of its partition of `__consumer_offsets`. The first question
creates that topic, and the answer waits until it is led: a client that is told "not yet" backs
off. For the same reason it waits a moment for the successor of a leader that may be dead, as
Metadata does (rule 9).

Transactions are not there yet: a transactional id gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the
one refusal that every client takes as final, so that no transactional producer ever hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers.metadata import CREATE_TOPICS_VERSION, ELECTION_MS
from kcluster.core.broker.holds import Then
from kcluster.core.groups.coordinator import partition_of
from kcluster.errors import ErrorCode
from kcluster.model import NO_LEADER, OFFSETS_TOPIC, TopicPartition
from kcluster.wire.apis import CREATE_TOPICS
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

GROUP: Final = 0
TRANSACTION: Final = 1

BATCHED_VERSION: Final = 4

CREATED_MS: Final = 2000
"""How long an answer waits for a new `__consumer_offsets` to be led."""


def handle(broker: BrokerCore, call: Call, request: FindCoordinatorRequest, turn: Turn) -> None:
    is_batched = call.header.api_version >= BATCHED_VERSION
    keys = request.coordinator_keys if is_batched else [request.key]

    def answer(later: Turn) -> None:
        found = [_find(broker, request.key_type, key) for key in keys]
        if is_batched:
            call.answer(later, FindCoordinatorResponse(coordinators=found))
            return
        [one] = found
        call.answer(
            later,
            FindCoordinatorResponse(
                error_code=one.error_code,
                error_message=one.error_message,
                node_id=one.node_id,
                host=one.host,
                port=one.port,
            ),
        )

    if request.key_type != GROUP:
        answer(turn)
    elif broker.groups.partitions():
        _answer_when_led(broker, keys, turn, answer)
    else:
        _create_topic(broker, turn)
        broker.hold(turn, CREATED_MS, lambda: _are_led(broker, keys, set()), answer)


def _find(broker: BrokerCore, key_type: int, key: str) -> Coordinator:
    code, message = _refusal(broker, key_type)
    if not code:
        leader = broker.image.brokers.get(_leader(broker, key))
        if leader is not None:
            return Coordinator(key=key, node_id=leader.id, host=leader.host, port=leader.port)
        code = ErrorCode.COORDINATOR_NOT_AVAILABLE
        message = "the group's partition of __consumer_offsets has no leader at the moment"
    return Coordinator(
        key=key, node_id=-1, host="", port=-1, error_code=code, error_message=message
    )


def _refusal(broker: BrokerCore, key_type: int) -> tuple[ErrorCode, str]:
    if key_type == GROUP:
        if not broker.groups.partitions():
            problem = broker.groups.creation or "its creation takes long"
            return ErrorCode.COORDINATOR_NOT_AVAILABLE, f"there is no {OFFSETS_TOPIC}: {problem}"
        return ErrorCode.NONE, ""
    if key_type == TRANSACTION:
        return (
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not supported by kcluster yet: leave out transactional.id",
        )
    return ErrorCode.INVALID_REQUEST, f"coordinators of type {key_type} are not supported"


def _leader(broker: BrokerCore, key: str) -> int:
    """NO_LEADER also when it is known to be dead."""
    partition = partition_of(key, broker.groups.partitions())
    state = broker.image.partition(TopicPartition(OFFSETS_TOPIC, partition))
    if state is None or broker.is_dead(state.leader):
        return NO_LEADER
    return state.leader


def _are_led(broker: BrokerCore, keys: list[str], silent: set[int]) -> bool:
    if not broker.groups.partitions():
        return False
    leaders = {_leader(broker, key) for key in keys}
    return NO_LEADER not in leaders and not leaders & silent


def _answer_when_led(broker: BrokerCore, keys: list[str], turn: Turn, answer: Then) -> None:
    neighbours = broker.neighbours
    others = {_leader(broker, key) for key in keys} - {broker.broker_id, NO_LEADER}
    question = neighbours.ask(turn, others)

    def then(later: Turn) -> None:
        neighbours.forget(question)
        answer(later)

    broker.hold(
        turn, ELECTION_MS, lambda: _are_led(broker, keys, neighbours.silent(question)), then
    )


def _create_topic(broker: BrokerCore, turn: Turn) -> None:
    """Have the controller create `__consumer_offsets`, unless that is under way."""
    groups = broker.groups
    if groups.creation == "":
        return
    groups.creation = ""
    settings = broker.settings
    topic = CreatableTopic(
        name=OFFSETS_TOPIC,
        num_partitions=settings.int("offsets.topic.num.partitions"),
        replication_factor=min(
            settings.int("offsets.topic.replication.factor"), max(len(broker.image.alive()), 1)
        ),
        configs=[
            CreatableTopicConfig(name="cleanup.policy", value="compact"),
            CreatableTopicConfig(name="compression.type", value="producer"),
            CreatableTopicConfig(
                name="segment.bytes", value=settings.text("offsets.topic.segment.bytes")
            ),
        ],
    )
    creation = CreateTopicsRequest(topics=[topic], timeout_ms=CREATED_MS)

    def done(later: Turn, error: int, body: memoryview | None) -> None:
        groups.creation = ErrorCode(error).name
        if body is not None:
            [told] = decode(CreateTopicsResponse, body, CREATE_TOPICS_VERSION).topics
            groups.creation = told.error_message or ErrorCode(told.error_code).name

    broker.forward(
        turn,
        CREATE_TOPICS,
        CREATE_TOPICS_VERSION,
        encode(creation, CREATE_TOPICS_VERSION),
        None,
        CREATED_MS,
        done,
    )
