"""The faces for an event loop: the same over ZeroMQ, over TCP, and with Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from kcluster.client import (
    ApiError,
    AsyncAdmin,
    AsyncConsumer,
    AsyncProducer,
    Consumed,
    ErrorCode,
    From,
    MembershipSettings,
    Place,
    TopicPartition,
)
from kcluster.core.client.exchange import Patience
from tests.live.client_suite.conftest import PATIENCE_S, Way

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE_S))


def test_many_send_at_once_and_one_reads_it_all(way: Way) -> None:
    topic = way.topic(partitions=3)

    async def main() -> None:
        async with AsyncProducer(**way.where, compression="lz4") as producer:

            async def send(worker: int) -> None:
                for number in range(200):
                    await producer.send(topic, b"%d" % number, b"%d" % worker)
                delivery = await producer.wait(await producer.send(topic, b"200", b"%d" % worker))
                assert delivery.offset >= 200

            await asyncio.gather(*(send(worker) for worker in range(20)))
        async with AsyncConsumer(topics=topic, **way.where) as consumer:
            found = [each async for each in consumer.read_to_end()]
            assert sum((await consumer.ends()).values()) == len(found) == 20 * 201
        for worker in range(20):
            values = [int(each.value or b"") for each in found if each.key == b"%d" % worker]
            assert values == list(range(201))

    run(main())


def test_what_lingers_goes_out_while_the_program_awaits_something_else(way: Way) -> None:
    topic = way.topic()

    async def main() -> None:
        told = asyncio.get_running_loop().create_future()
        async with AsyncProducer(**way.where, linger_ms=50) as producer:
            await producer.send(topic, b"x", on_delivery=told.set_result)
            assert (await told).offset == 0

    run(main())


def test_members_share_and_heartbeat_while_their_program_awaits_something_else(way: Way) -> None:
    topic = way.topic(partitions=2)
    group = f"async-{topic}"

    async def main() -> None:
        settings = MembershipSettings(session_ms=6_000)
        seen: list[Consumed] = []
        async with AsyncProducer(**way.where) as producer:
            for number in range(100):
                await producer.send(topic, b"%d" % number, partition=number % 2)

        def consumer() -> AsyncConsumer:
            return AsyncConsumer(topics=topic, group=group, membership=settings, **way.where)

        async def work(member: AsyncConsumer) -> None:
            while len(seen) < 100:
                seen.extend(await member.poll(100, limit=10))
                await asyncio.sleep(0)

        async with consumer() as one, consumer() as other:
            await asyncio.gather(work(one), work(other))
            while [len(one.assignment), len(other.assignment)] != [1, 1]:
                await asyncio.gather(one.poll(20), other.poll(20))
            await one.commit()
            await other.commit()
            committed = await one.committed()
            assert committed == {TopicPartition(topic, 0): 50, TopicPartition(topic, 1): 50}
            # Longer than a session, and nobody polls: heartbeats leave all the same.
            await asyncio.sleep(7)
            async with AsyncAdmin(**way.where) as admin:
                found = await admin.describe_group(group)
            assert (found.state, len(found.members)) == ("Stable", 2)
        assert {(each.partition, each.offset) for each in seen} == {
            (number % 2, number // 2) for number in range(100)
        }
        async with AsyncAdmin(**way.where) as admin:
            await admin.delete_group(group)

    run(main())


def test_refusals_and_seeks_are_the_same_as_without_an_event_loop(way: Way) -> None:
    topic = way.topic()

    async def main() -> None:
        async with AsyncProducer(**way.where) as producer:
            for number in range(10):
                await producer.send(topic, b"%d" % number)
        async with AsyncConsumer(topics=topic, **way.where) as consumer:
            assert len(await consumer.poll(10_000, limit=3)) == 3
            consumer.seek(TopicPartition(topic, 0), From(Place.LAST, 2))
            assert [each.offset async for each in consumer.read_to_end()] == [8, 9]
        with pytest.raises(ApiError) as missing:
            soon = Patience(topic_ms=500)
            async with AsyncConsumer(topics="no-such", patience=soon, **way.where) as consumer:
                await consumer.poll(30_000)
        assert missing.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        with pytest.raises(ApiError, match="has partitions 0 to 0"):
            async with AsyncProducer(**way.where) as producer:
                await producer.send(topic, b"", partition=3)

    run(main())
