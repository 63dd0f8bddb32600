"""Where replicas of new partitions go when brokers stand in racks."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from kcluster.core.controller.placement import place
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage


def image_of(racks: dict[int, str | None], fenced: tuple[int, ...] = ()) -> ClusterImage:
    image = ClusterImage()
    for id, rack in racks.items():
        image.replay(r.BrokerRegistered(id, id, 1, "127.0.0.1", 9090 + id, f"ipc://{id}", rack))
        if id not in fenced:
            image.replay(r.BrokerUnfenced(id, id))
    return image


def racks_of(image: ClusterImage, replicas: list[int]) -> list[str | None]:
    return [image.brokers[id].rack for id in replicas]


SIX = {1: "a", 2: "b", 3: "c", 4: "a", 5: "b", 6: "c"}


@pytest.mark.parametrize("seed", range(20))
def test_every_rack_has_one_before_any_has_two(seed: int) -> None:
    image = image_of(dict(SIX))
    for replicas in place(image, Random(seed), 12, 3):
        assert sorted(map(str, racks_of(image, replicas))) == ["a", "b", "c"]
    for replicas in place(image, Random(seed), 12, 4):
        assert sorted(Counter(racks_of(image, replicas)).values()) == [1, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_leaders_and_replicas_are_spread_over_the_brokers_as_well(seed: int) -> None:
    placed = place(image_of(dict(SIX)), Random(seed), 12, 3)
    leaders = Counter(replicas[0] for replicas in placed)
    counts = Counter(id for replicas in placed for id in replicas)
    assert set(leaders.values()) == {2}
    assert set(counts.values()) <= {5, 6, 7}


def test_a_rack_of_one_broker_has_one_of_each() -> None:
    image = image_of({1: "a", 2: "a", 3: "a", 4: "b"})
    assert all(4 in replicas for replicas in place(image, Random(1), 8, 2))


def test_a_rack_comes_before_a_broker_that_runs() -> None:
    image = image_of({1: "a", 2: "a", 3: "b"}, fenced=(3,))
    for replicas in place(image, Random(1), 6, 2):
        assert replicas[0] in (1, 2)
        assert replicas[1] == 3


def test_brokers_without_a_rack_are_one_rack() -> None:
    image = image_of({1: None, 2: None, 3: "b"})
    for replicas in place(image, Random(1), 6, 2):
        assert 3 in replicas
