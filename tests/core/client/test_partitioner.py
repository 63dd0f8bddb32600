from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.core.client.partitioner import StickyPartitions, murmur2, partition_of_key


class Partitions:
    """What kafka-python's partitioner wants to know of a cluster."""

    def __init__(self, count: int) -> None:
        self._all = set(range(count))

    def topics(self) -> set[str]:
        return {"orders"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self._all

    available_partitions_for_topic = partitions_for_topic


@settings(deadline=None)  # the first example imports it
@given(st.binary(max_size=64))
def test_murmur2_is_that_of_kafka_python(data: bytes) -> None:
    from kafka.partitioner.default import murmur2 as theirs

    assert murmur2(data) == theirs(data) & 0xFFFFFFFF


def test_keys_land_where_kafka_python_puts_them() -> None:
    from kafka.partitioner.default import DefaultPartitioner

    chance = random.Random(7)
    theirs = DefaultPartitioner()
    for count in (1, 2, 3, 7, 12, 100):
        cluster = Partitions(count)
        for _ in range(300):
            key = chance.randbytes(chance.randrange(20))
            assert partition_of_key(key, count) == theirs.partition(
                "orders", key, key, None, None, cluster
            )


def test_without_a_key_one_partition_takes_all_until_its_batch_is_gone() -> None:
    sticky = StickyPartitions()
    assert [sticky.choose(3) for _ in range(4)] == [0] * 4
    sticky.move_on(2, 3)  # not the one that is filled
    assert sticky.choose(3) == 0
    sticky.move_on(0, 3)
    assert sticky.choose(3) == 1
    sticky.move_on(1, 3)
    sticky.move_on(2, 3)
    assert sticky.choose(3) == 0
