"""Which brokers get the replicas of new partitions, and which of them leads.

    leader     the broker that is the preferred leader of the fewest partitions
    followers  one in each other rack before any rack has two; of those the ones with the fewest
               replicas, going around the ring from the leader on

Counts are taken from the image and go on while partitions are placed, so that one topic of
many partitions and many topics of one both spread out. Ties go around a ring of the brokers:
it begins at a broker drawn from the given Random, and each partition shifts by one how far
behind the leader its followers begin, so that they are not the same pairs everywhere.

Live brokers come first; a fenced one gets replicas only when the replication factor, or a rack
that has no other, needs it (and is not in the ISR then), so that a topic made while a broker is
down is whole when it comes back. Brokers without a rack share one.

Source: KIP-36 (ring with a shift), Kafka's StripedReplicaPlacer (racks first, fenced brokers
last).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from kcluster.core.metadata.image import ClusterImage
from kcluster.errors import ApiError, ErrorCode


def place(
    image: ClusterImage,
    random: Random,
    partitions: int,
    replication_factor: int,
    first_partition: int = 0,
) -> list[list[int]]:
    """Assignments, the preferred leader first. Raises ApiError INVALID_REPLICATION_FACTOR."""
    live = in_sync_at_birth(image, sorted(image.brokers))
    fenced = [id for id in sorted(image.brokers) if id not in live]
    registered = len(live) + len(fenced)
    if not live:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to place {replication_factor} replica(s): no broker is running.",
        )
    if replication_factor > registered:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to place {replication_factor} replica(s) of each partition: only "
            f"{registered} broker(s) are registered, and no broker takes two replicas of one.",
        )
    return _Ring(image, live, fenced, random, first_partition).assignments(
        partitions, replication_factor
    )


def in_sync_at_birth(image: ClusterImage, replicas: Sequence[int]) -> list[int]:
    """Of `replicas`, those that may be in a new partition's ISR: alive and not on their way out."""
    return [id for id in replicas if image.is_alive(id) and not image.brokers[id].is_shutting_down]


class _Ring:
    def __init__(
        self,
        image: ClusterImage,
        live: list[int],
        fenced: list[int],
        random: Random,
        first_partition: int,
    ) -> None:
        start = random.randrange(len(live))
        self.live = live[start:] + live[:start]
        self.fenced = fenced
        self.racks = {id: broker.rack for id, broker in image.brokers.items()}
        self.shift = first_partition
        self.leaders = dict.fromkeys(live + fenced, 0)
        self.replicas = dict.fromkeys(live + fenced, 0)
        for topic in image.topics.values():
            for state in topic.partitions.values():
                self._count(state.target)

    def _count(self, replicas: Sequence[int]) -> None:
        self.leaders[replicas[0]] = self.leaders.get(replicas[0], 0) + 1
        for id in replicas:
            self.replicas[id] = self.replicas.get(id, 0) + 1

    def assignments(self, partitions: int, replication_factor: int) -> list[list[int]]:
        placed = []
        for index in range(partitions):
            replicas = self._one(replication_factor, self.shift + index)
            self._count(replicas)
            placed.append(replicas)
        return placed

    def _one(self, replication_factor: int, shift: int) -> list[int]:
        leader = min(self.live, key=lambda broker: (self.leaders[broker], self.replicas[broker]))
        at = self.live.index(leader)
        others = self.live[at + 1 :] + self.live[:at]
        if others:
            turn = shift % len(others)
            others = others[turn:] + others[:turn]
        # `sorted` is stable: with equal counts the ring's order stays.
        others = sorted(others, key=lambda broker: self.replicas[broker])
        spare = sorted(self.fenced, key=lambda broker: self.replicas[broker])
        return self._spread(leader, [*others, *spare], replication_factor)

    def _spread(self, leader: int, candidates: list[int], replication_factor: int) -> list[int]:
        """The leader and the first of the candidates, in racks that have the fewest of them."""
        replicas = [leader]
        in_rack = Counter([self.racks[leader]])
        while len(replicas) < replication_factor:
            next_one = min(candidates, key=lambda broker: in_rack[self.racks[broker]])
            candidates.remove(next_one)
            replicas.append(next_one)
            in_rack[self.racks[next_one]] += 1
        return replicas


def check_assignment(image: ClusterImage, replicas: Sequence[int], replication_factor: int) -> None:
    """A partition's replicas as a client names them; raises INVALID_REPLICA_ASSIGNMENT.
    `replication_factor`: how many there must be, or -1 for any number."""
    check_replicas(image, replicas)
    problem = ""
    if not in_sync_at_birth(image, replicas):
        problem = f"none of the brokers {list(replicas)} is running"
    elif replication_factor not in (-1, len(replicas)):
        problem = f"{list(replicas)} has not the {replication_factor} replicas of the others"
    if problem:
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, problem)


def check_replicas(image: ClusterImage, replicas: Sequence[int]) -> None:
    """Whether a partition can have them, running or not."""
    problem = ""
    unknown = [id for id in replicas if id not in image.brokers]
    if not replicas:
        problem = "an assignment needs at least one replica"
    elif len(set(replicas)) != len(replicas):
        problem = f"a broker is named twice in {list(replicas)}"
    elif unknown:
        problem = f"broker {unknown[0]} is not registered"
    if problem:
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, problem)
