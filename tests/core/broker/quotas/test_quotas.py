"""Whose quota counts, what a client over it is told, and how long it is not read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kcluster.config import Settings
from kcluster.core.broker.quotas import quotas as module
from kcluster.core.broker.quotas.quotas import ClientQuotas
from kcluster.core.metadata import records as r
from kcluster.core.metadata.quotas import (
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    Entity,
    entity_of,
)
from kcluster.limits import LIMITS
from kcluster.wire import telling
from kcluster.wire.messages import describe_client_quotas as dq
from kcluster.wire.messages.metadata import MetadataRequest
from tests.core.broker.stage import Member, Stage, fetch, fetched, produce, produced

USER = "ANONYMOUS"
PRECEDENCE = [
    entity_of(USER, "app"),
    entity_of(USER, None),
    entity_of(USER),
    entity_of(None, "app"),
    entity_of(None, None),
    entity_of(None),
    entity_of(client_id="app"),
    entity_of(client_id=None),
]
"""Kafka's, the first that is set counts."""


def quotas_of(quotas: dict[Entity, dict[str, float]]) -> ClientQuotas:
    made = ClientQuotas(Settings(), lambda: 0)
    made.configure(quotas)
    return made


def produce_limit(quotas: ClientQuotas, client_id: str | None) -> float | None:
    metered = quotas.of(client_id)
    return metered.produce.limit if metered is not None and metered.produce is not None else None


# --- whose ----------------------------------------------------------------------------------


def test_the_nearest_of_eight_levels_counts() -> None:
    for first in range(len(PRECEDENCE)):
        below = {
            entity: {PRODUCER_BYTE_RATE: float(level)}
            for level, entity in enumerate(PRECEDENCE)
            if level >= first
        }
        assert produce_limit(quotas_of(below), "app") == first


def test_each_key_finds_its_own_level() -> None:
    quotas = quotas_of(
        {
            entity_of(USER, "app"): {PRODUCER_BYTE_RATE: 1.0},
            entity_of(client_id=None): {PRODUCER_BYTE_RATE: 2.0, CONSUMER_BYTE_RATE: 3.0},
        }
    )
    metered = quotas.of("app")
    assert metered is not None
    assert metered.produce is not None
    assert metered.fetch is not None
    assert (metered.produce.limit, metered.fetch.limit, metered.request) == (1.0, 3.0, None)


def test_clients_of_one_user_share_its_quota_and_those_of_a_default_client_id_do_not() -> None:
    shared = quotas_of({entity_of(None): {PRODUCER_BYTE_RATE: 1.0}})
    a, b = shared.of("a"), shared.of("b")
    assert a is not None
    assert b is not None
    assert a.produce is b.produce
    apart = quotas_of({entity_of(client_id=None): {PRODUCER_BYTE_RATE: 1.0}})
    a, b = apart.of("a"), apart.of("b")
    assert a is not None
    assert b is not None
    assert a.produce is not b.produce


@pytest.mark.parametrize("name", [None, ""])
def test_a_client_without_a_name_has_its_users_quotas_only(name: str | None) -> None:
    assert (
        produce_limit(quotas_of({entity_of(client_id=None): {PRODUCER_BYTE_RATE: 1}}), name) is None
    )
    assert produce_limit(quotas_of({entity_of(None): {PRODUCER_BYTE_RATE: 1.0}}), name) == 1


def test_a_changed_limit_keeps_what_was_taken() -> None:
    quotas = quotas_of({entity_of(client_id="app"): {PRODUCER_BYTE_RATE: 1e6}})
    before = quotas.of("app")
    assert before is not None
    assert before.produce is not None
    assert before.produce.record(50_000, 0) == 0
    quotas.configure({entity_of(client_id="app"): {PRODUCER_BYTE_RATE: 1e3}})
    after = quotas.of("app")
    assert after is not None
    assert after.produce is not None
    assert after.produce.record(0, 0) == 40_000


def test_no_more_clients_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 5
    monkeypatch.setattr(module, "LIMITS", type(LIMITS)(quota_clients=bound))
    quotas = quotas_of({entity_of(client_id=None): {PRODUCER_BYTE_RATE: 1.0}})
    for number in range(4 * bound):
        assert quotas.of(f"c{number}") is not None
    assert len(quotas._clients) == len(quotas._rates) == bound


# --- what becomes of it -----------------------------------------------------------------------


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(1)
    stage.create([1])
    return stage


def limit(stage: Stage, key: str, value: float | None, entity: Entity | None = None) -> None:
    stage.dictate(r.QuotaChanged(entity or entity_of(client_id="test"), key, value))


def mutes(member: Member) -> list[int]:
    return [reply.mute_ms for reply in member.replies]


def test_a_producer_over_its_quota_is_told_and_muted_and_its_records_are_kept(
    stage: Stage,
) -> None:
    limit(stage, PRODUCER_BYTE_RATE, 100)
    member = stage[1]
    member.asks(produce(b"x" * 500, acks=1), 9)
    assert mutes(member) == [0]
    assert member.answer().throttle_time_ms == 0
    member.asks(produce(b"x" * 500, acks=1), 9)
    (muted_ms,) = mutes(member)
    answer = member.answer()
    assert produced(answer).error_code == 0
    assert answer.throttle_time_ms == muted_ms > 1000
    assert member.log.log_end_offset == 2
    stage.wait(muted_ms + 1)
    member.asks(MetadataRequest(topics=[]), 12)
    assert member.answer().throttle_time_ms == 0
    member.hears(-3, telling.DescribeReplicas(1))
    (told,) = member.heard(telling.Replicas)
    assert told.counters.throttled == telling.Throttled(1, muted_ms)


def test_acks_0_is_muted_without_a_word(stage: Stage) -> None:
    limit(stage, PRODUCER_BYTE_RATE, 10)
    member = stage[1]
    member.asks(produce(b"x" * 500, acks=0), 9)
    (reply,) = member.replies
    assert reply.parts == []
    assert reply.mute_ms > 0


def test_a_consumer_over_its_quota_is_given_nothing_until_it_has_waited(stage: Stage) -> None:
    member = stage[1]
    for _ in range(4):
        member.asks(produce(b"x" * 500, acks=1), 9)
    member.answers()
    limit(stage, CONSUMER_BYTE_RATE, 100)
    # 1000 bytes at once are within the quota of 11 windows; more is never read.
    member.asks(fetch(0), 12)
    answer = member.answer()
    assert answer.throttle_time_ms == 0
    assert 500 < len(bytes(fetched(answer).records)) < 1000
    member.asks(fetch(1), 12)
    (muted_ms,) = mutes(member)
    answer = member.answer()
    assert (answer.error_code, answer.responses) == (0, [])
    assert answer.throttle_time_ms == muted_ms > 0
    read = member.core.status.traffic.total().bytes_out
    waited_ms = 0
    while answer.throttle_time_ms:
        waited_ms += answer.throttle_time_ms
        stage.wait(answer.throttle_time_ms)
        member.asks(fetch(1), 12)
        answer = member.answer()
    # What it was not given, it has not had: the bytes of the first answer are all it waits for.
    assert waited_ms < 14_000
    given = len(bytes(fetched(answer).records))
    assert member.core.status.traffic.total().bytes_out == read + given


def test_a_batch_larger_than_the_quota_ever_allows_is_given_and_paid_for(stage: Stage) -> None:
    limit(stage, CONSUMER_BYTE_RATE, 10)
    member = stage[1]
    for _ in range(2):
        member.asks(produce(b"x" * 5000, acks=1), 9)
    member.answers()
    member.asks(fetch(0), 12)
    answer = member.answer()
    assert len(bytes(fetched(answer).records)) > 5000
    assert answer.throttle_time_ms > 400_000
    member.asks(fetch(1), 12)
    assert member.answer().responses == []
    stage.wait(11_000)
    member.asks(fetch(1), 12)
    assert len(bytes(fetched(member.answer()).records)) > 5000


def test_a_fetch_that_waited_is_throttled_as_well(stage: Stage) -> None:
    limit(stage, CONSUMER_BYTE_RATE, 10)
    member = stage[1]
    member.asks(fetch(0), 12, connection=2)
    assert member.answers() == []
    member.asks(produce(b"x" * 500, acks=1), 9, connection=1)
    replies = {reply.connection: reply.mute_ms for reply in member.replies}
    assert replies[1] == 0
    assert replies[2] > 0
    member.asks(fetch(0), 12, connection=2, correlation=8)
    assert member.replies[-1].mute_ms > 0


def test_request_time_throttles_every_api_and_for_one_window_at_most(stage: Stage) -> None:
    limit(stage, REQUEST_PERCENTAGE, 0.5)
    member = stage[1]
    ticks = iter(range(1, 10**15, 40_000_000))
    member.core.quotas._stopwatch = ticks.__next__
    answers: list[Any] = []
    for _ in range(5):
        member.asks(MetadataRequest(topics=[]), 12)
        answers.append((mutes(member)[0], member.answer().throttle_time_ms))
    assert answers[0] == (0, 0)
    assert answers[-1] == (1000, 1000)


def test_all_answers_of_a_pipeline_leave_and_each_says_how_long(stage: Stage) -> None:
    limit(stage, PRODUCER_BYTE_RATE, 100)
    member = stage[1]
    for number in range(4):
        member.asks(produce(b"x" * 1000, acks=1), 9, correlation=number)
    muted = mutes(member)
    assert muted == sorted(muted)
    assert [answer.throttle_time_ms for answer in member.answers()] == muted
    assert muted[-1] > 20_000


def test_others_are_not_looked_at(stage: Stage) -> None:
    limit(stage, PRODUCER_BYTE_RATE, 1, entity_of(client_id="somebody else"))
    member = stage[1]
    member.asks(produce(b"x" * 5000, acks=1), 9)
    assert mutes(member) == [0]
    limit(stage, PRODUCER_BYTE_RATE, None, entity_of(client_id="somebody else"))
    assert not member.core.quotas.is_active


# --- DescribeClientQuotas ---------------------------------------------------------------------


def described(stage: Stage, *components: tuple[str, int, str | None], strict: bool = False) -> Any:
    request = dq.DescribeClientQuotasRequest(
        components=[
            dq.ComponentData(entity_type=kind, match_type=match_type, match=match)
            for kind, match_type, match in components
        ],
        strict=strict,
    )
    stage[1].asks(request, 1)
    answer = stage[1].answer()
    if answer.error_code:
        return answer.error_code
    return {
        tuple(sorted((part.entity_type, part.entity_name) for part in entry.entity))
        for entry in answer.entries
    }


def test_a_filter_finds_what_kafkas_would(stage: Stage) -> None:
    for entity in PRECEDENCE:
        limit(stage, PRODUCER_BYTE_RATE, 5, entity)
    everything = set(PRECEDENCE)
    assert described(stage) == everything
    assert described(stage, strict=True) == set()
    exact, default, any_name = 0, 1, 2
    assert described(stage, ("client-id", exact, "app")) == {
        entity_of(USER, "app"), entity_of(None, "app"), entity_of(client_id="app"),
    }  # fmt: skip
    assert described(stage, ("client-id", exact, "app"), strict=True) == {
        entity_of(client_id="app")
    }
    assert described(stage, ("user", default, None), strict=True) == {entity_of(None)}
    assert described(stage, ("user", any_name, None), strict=True) == {
        entity_of(USER), entity_of(None),
    }  # fmt: skip
    assert described(stage, ("user", exact, USER), ("client-id", any_name, None)) == {
        entity_of(USER, "app"), entity_of(USER, None),
    }  # fmt: skip
    assert described(stage, ("ip", any_name, None)) == set()


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ([("", 0, "x")], 42),
        ([("user", 0, "x"), ("user", 1, None)], 42),
        ([("planet", 2, None)], 35),
        ([("user", 0, None)], 42),
        ([("user", 1, "x")], 42),
        ([("user", 3, None)], 42),
        ([("ip", 2, None), ("user", 2, None)], 42),
    ],
)
def test_a_filter_that_says_nothing_is_refused(
    stage: Stage, components: list[tuple[str, int, str | None]], code: int
) -> None:
    assert described(stage, *components) == code
