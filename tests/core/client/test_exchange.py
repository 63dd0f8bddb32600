"""Requests in flight: who is throttled waits, and no request is lost by it."""

from __future__ import annotations

from typing import Any

from kcluster.core.client.exchange import Exchange, Patience
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse


def ask(exchange: Exchange, broker_id: int, now_ms: int, answers: list[Any]) -> None:
    exchange.ask(
        broker_id, MetadataRequest(), 12, MetadataResponse,
        lambda response, _: answers.append(response), now_ms=now_ms,
    )  # fmt: skip


def sent_to(exchange: Exchange) -> list[int]:
    sent, exchange.outgoing = exchange.outgoing, []
    return [each.broker_id for each in sent]


def throttled(exchange: Exchange, ms: int) -> None:
    """Broker 1 has answered with this throttle time, at 0."""
    ask(exchange, 1, 0, [])
    correlation = exchange.outgoing[-1].correlation
    exchange.arrived(correlation, MetadataResponse(throttle_time_ms=ms), 0)
    exchange.outgoing.clear()


def test_a_broker_that_throttles_is_asked_when_its_time_has_passed_and_others_at_once() -> None:
    exchange = Exchange([1, 2])
    throttled(exchange, 500)
    answers: list[Any] = []
    ask(exchange, 1, 100, answers)
    ask(exchange, 2, 100, answers)
    assert sent_to(exchange) == [2]
    assert exchange.next_deadline() == 500
    exchange.tick(499)
    assert sent_to(exchange) == []
    exchange.tick(500)
    (late,) = exchange.outgoing
    exchange.arrived(late.correlation, MetadataResponse(), 501)
    assert len(answers) == 1


def test_nobody_waits_for_longer_than_an_answer_may_take() -> None:
    exchange = Exchange([1], Patience(request_ms=1000))
    throttled(exchange, 2**31 - 1)
    ask(exchange, 1, 10, [])
    exchange.tick(1000)
    assert sent_to(exchange) == [1]


def test_a_new_connection_knows_nothing_of_it() -> None:
    exchange = Exchange([1])
    throttled(exchange, 500)
    exchange.lost(1, 10)
    ask(exchange, 1, 10, [])
    assert sent_to(exchange) == [1]


def test_who_owes_an_answer_for_too_long_is_named_once() -> None:
    exchange = Exchange([1, 2], Patience(request_ms=1000))
    answers: list[Any] = []
    ask(exchange, 1, 0, answers)
    ask(exchange, 1, 500, answers)
    exchange.tick(999)
    assert exchange.take_silent() == []
    exchange.tick(1000)
    assert (answers, exchange.take_silent(), exchange.take_silent()) == ([None], [1], [])
    # Its connection is closed: what waited behind that answer is lost with it.
    exchange.lost(1, 1000)
    assert answers == [None, None]
