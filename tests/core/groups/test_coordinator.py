"""From a group's id to its shard."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcluster.core.groups.coordinator import GroupCoordinator, java_hash, partition_of
from kcluster.core.groups.shard import GroupSettings, Phase, Shard
from kcluster.core.purgatory import Deadlines
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode
from tests.core.groups.playbook import FakeJournal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # As Java's String.hashCode has them; the first are in its documentation and in many books.
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("Aa", 2112),
        ("BB", 2112),
        ("polygenelubricants", -2147483648),
        ("zzzzzzzzzz", -1580979136),
        ("\u00e9", 233),
        ("\U0001f600", 1772899),
    ],
)
def test_ids_are_hashed_as_java_does(text: str, value: int) -> None:
    assert java_hash(text) == value & 0xFFFFFFFF


@given(st.text())
def test_the_hash_is_that_over_utf_16(text: str) -> None:
    expected = 0
    for char in text:
        point = ord(char)
        units = [point]
        if point > 0xFFFF:
            units = [0xD7C0 + (point >> 10), 0xDC00 | point & 0x3FF]
        for unit in units:
            expected = (31 * expected + unit) % 2**32
    assert java_hash(text) == expected


def test_the_smallest_hash_belongs_to_a_partition_too() -> None:
    # Kafka's Utils.abs masks the sign: the absolute value of -2^31 would be negative in Java.
    assert partition_of("polygenelubricants", 50) == 0
    assert partition_of("hello", 50) == 99162322 % 50
    negative = "zzzzzzzzzz"
    assert partition_of(negative, 50) == (-1580979136 & 0x7FFFFFFF) % 50


class Journal(FakeJournal):
    def __init__(self, partition: int) -> None:
        super().__init__()
        self.partition = partition


class Scene:
    def __init__(self, partitions: int = 1) -> None:
        self.turn = Turn()
        self.partitions = partitions
        self.settings = GroupSettings()
        self.coordinator = GroupCoordinator(
            Deadlines(), Random(1), lambda: self.settings, lambda: self.partitions
        )
        self.told: list[Any] = []

    def open(self, partition: int = 0, *, loads: bool = True) -> Shard:
        shard = self.coordinator.open(self.turn, Journal(partition))
        while loads and shard.load(self.turn):
            pass
        return shard

    def serve(self, group: str = "g", error: ErrorCode = ErrorCode.NONE) -> None:
        def act(turn: Turn, shard: Shard) -> None:
            if error:
                raise ApiError(error)
            self.told.append(shard.journal.partition)

        self.coordinator.serve(self.turn, group, act, lambda turn, code: self.told.append(code))


def test_a_group_is_served_by_the_shard_of_its_partition() -> None:
    scene = Scene(12)
    for partition in range(12):
        scene.open(partition)
    for group in ("g", "h", "orders", "\U0001f600"):
        scene.serve(group)
    assert scene.told == [partition_of(g, 12) for g in ("g", "h", "orders", "\U0001f600")]


@pytest.mark.parametrize("partitions", [0, 12])
def test_a_group_without_a_shard_here_is_not_ours(partitions: int) -> None:
    scene = Scene(partitions)
    scene.serve()
    assert scene.told == [ErrorCode.NOT_COORDINATOR]


def test_what_is_raised_is_the_answer() -> None:
    scene = Scene()
    scene.open()
    scene.serve(error=ErrorCode.ILLEGAL_GENERATION)
    assert scene.told == [ErrorCode.ILLEGAL_GENERATION]


def test_a_request_is_served_when_its_shard_is_loaded() -> None:
    scene = Scene()
    shard = scene.open(loads=False)
    scene.serve()
    scene.serve(error=ErrorCode.ILLEGAL_GENERATION)
    assert scene.told == []
    assert not shard.load(scene.turn)
    assert scene.told == [0, ErrorCode.ILLEGAL_GENERATION]


def test_a_new_leadership_begins_with_a_new_shard() -> None:
    scene = Scene()
    old = scene.open(loads=False)
    scene.serve()
    scene.open()
    assert old.phase is Phase.CLOSED
    assert scene.told == [ErrorCode.NOT_COORDINATOR]
    scene.coordinator.close(scene.turn, 0)
    scene.coordinator.close(scene.turn, 0)
    scene.serve()
    assert scene.told == [ErrorCode.NOT_COORDINATOR] * 2


def test_a_list_of_groups_has_all_or_is_refused() -> None:
    scene = Scene(2)
    for partition in range(2):
        shard = scene.open(partition)
        shard.group(f"z{partition}").generation = 1
        shard.group(f"a{partition}").generation = 1
        shard.group("a question")
    assert [group.id for group in scene.coordinator.all_groups()] == ["a0", "z0", "a1", "z1"]
    scene.open(1, loads=False)
    with pytest.raises(ApiError) as refused:
        list(scene.coordinator.all_groups())
    assert refused.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


def test_settings_are_taken_over_with_the_next_round() -> None:
    scene = Scene()
    shard = scene.open()
    scene.settings = GroupSettings(retention_ms=1)
    scene.coordinator.expire(scene.turn)
    assert shard.settings.retention_ms == 1
