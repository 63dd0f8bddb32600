"""A broker as the read-side handlers see it: an image, settings, and what it was asked to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kcluster.config import Settings
from kcluster.core.broker.neighbours import Neighbours
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Turn
from kcluster.wire.frame import RequestHeader
from kcluster.wire.message import decode, encode

ORDERS = b"orders-id-000000"
EMPTY = b"clicks-id-000000"


def image(*more: r.Record) -> ClusterImage:
    """Three brokers; `orders` with two partitions led by 1 and 2."""
    out = ClusterImage()
    records: list[r.Record] = [r.ClusterCreated("cluster-of-three-brok1")]
    for id in (1, 2, 3):
        records.append(
            r.BrokerRegistered(id, 10 + id, 100 + id, "127.0.0.1", 19091 + id, "ipc", None)
        )
        records.append(r.BrokerUnfenced(id, 10 + id))
    records.append(r.TopicCreated("orders", ORDERS))
    for partition, leader in ((0, 1), (1, 2)):
        records.append(led(partition, leader))
    for record in [*records, *more]:
        out.replay(record)
    out.next_offset = len(records)
    return out


def led(partition: int, leader: int, **changes: Any) -> r.PartitionChanged:
    state: dict[str, Any] = {
        "topic_id": ORDERS,
        "partition": partition,
        "replicas": [1, 2, 3],
        "isr": [1, 2, 3],
        "leader": leader,
        "leader_epoch": 4,
        "partition_epoch": 7,
    }
    return r.PartitionChanged(**{**state, **changes})


@dataclass
class Held:
    timeout_ms: int
    is_ready: Callable[[], bool]
    go_on: Callable[[Turn], None]


@dataclass
class FakeBroker:
    image: ClusterImage = field(default_factory=image)
    settings: Settings = field(default_factory=Settings)
    broker_id: int = 1
    dead: set[int] = field(default_factory=set)
    held: list[Held] = field(default_factory=list)
    neighbours: Neighbours = field(default_factory=Neighbours)
    forwarded: list[tuple[Any, ...]] = field(default_factory=list)

    def is_dead(self, broker_id: int) -> bool:
        return broker_id in self.dead

    def has_dead(self) -> bool:
        return bool(self.dead)

    def hold(
        self,
        turn: Turn,
        timeout_ms: int,
        is_ready: Callable[[], bool],
        go_on: Callable[[Turn], None],
    ) -> None:
        if is_ready():
            go_on(turn)
        else:
            self.held.append(Held(timeout_ms, is_ready, go_on))

    def forward(self, *args: Any) -> None:
        self.forwarded.append(args)


class FakeCall:
    def __init__(self, api_key: int, version: int) -> None:
        self.header = RequestHeader(api_key, version, 7, "a-client")
        self.answers: list[Any] = []

    def answer(self, turn: Turn, response: Any) -> None:
        self.answers.append(response)

    def answer_parts(self, turn: Turn, parts: list[Any]) -> None:
        self.answers.append(b"".join(parts))


def ask(
    handler: Any,
    broker: FakeBroker,
    request: Any,
    version: int,
    *,
    answers_questions: bool = True,
) -> Any:
    """The answer, sent through the codec and back, or the call when it is held. Brokers that are
    not dead answer when they are asked whether they are there."""
    call = FakeCall(request.KEY, version)
    seen = decode(type(request), encode(request, version), version)
    answer = handler.handle(broker, call, seen, Turn())
    if answer is None and answers_questions:
        for number in list(broker.neighbours._silent):
            for id in {1, 2, 3} - broker.dead:
                broker.neighbours.answered(id, number)
        for held in [held for held in broker.held if held.is_ready()]:
            broker.held.remove(held)
            held.go_on(Turn())
        if call.answers:
            [answer] = call.answers
    if answer is None:
        return call
    return decode(type(answer), encode(answer, version), version)
