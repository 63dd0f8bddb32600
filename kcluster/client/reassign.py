"""Which replicas partitions shall have: plans, from what they have and what somebody wants.

    to_brokers   each partition on these brokers only
    balance      as many replicas, and then preferred leaders, on one broker as on another
    from_json    what a file in the format of Kafka's own tool says

Plans move as little as they can. A new replica takes the place in the order of the one that it
is for, and so its leadership; it goes to the broker that has the fewest. Nothing here asks
anybody: what is, is given as an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from kcluster.core.metadata.image import ClusterImage
from kcluster.errors import UsageError
from kcluster.model import TopicPartition

Assignments = Mapping[TopicPartition, Sequence[int]]
"""Replicas by partition, the preferred leader first."""


class Move(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    before: list[int]
    target: list[int]

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def adding(self) -> list[int]:
        return [id for id in self.target if id not in self.before]


def assignments(image: ClusterImage) -> dict[TopicPartition, list[int]]:
    """Of all partitions: what they have, or are being given."""
    return {
        TopicPartition(name, index): state.target
        for name, topic in sorted(image.topics.items())
        for index, state in sorted(topic.partitions.items())
    }


def moves(before: Assignments, after: Assignments) -> list[Move]:
    """What differs."""
    return [
        Move(*tp, list(before[tp]), list(target))
        for tp, target in sorted(after.items())
        if list(before[tp]) != list(target)
    ]


class TooFewBrokers(UsageError):
    """A partition would have fewer replicas than it is to have."""


def to_brokers(
    all: Assignments,
    meant: Iterable[TopicPartition],
    brokers: Collection[int],
    replicas: int | None = None,
) -> dict[TopicPartition, list[int]]:
    """The partitions that are meant, on `brokers` only; `replicas`: how many each shall have,
    None: as many as it has. Raises TooFewBrokers."""
    load = Counter(id for ids in all.values() for id in ids)
    wanted = {}
    for tp in meant:
        have = list(all[tp])
        count = replicas or len(have)
        if count > len(brokers):
            raise TooFewBrokers(
                f"{tp} cannot have {count} replicas on {_brokers(brokers)}",
                "no broker takes two replicas of one partition",
                "kcluster add-broker, or fewer replicas: kcluster reassign TOPIC --replicas N",
            )
        load.subtract(have)
        kept = [id for id in have if id in brokers][:count]
        free = [id for id in brokers if id not in kept]
        chosen: list[int] = []
        for place in range(count):
            if place < len(have) and have[place] in kept:
                chosen.append(have[place])
            elif len(chosen) + sum(id not in chosen for id in kept) < count:
                best = min(free, key=lambda broker: (load[broker], broker))
                free.remove(best)
                chosen.append(best)
        chosen += [id for id in kept if id not in chosen]
        load.update(chosen)
        wanted[tp] = chosen
    return wanted


def balance(
    all: Assignments, brokers: Collection[int], sizes: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[int]]:
    """Replicas even over `brokers`, small ones moved first; then preferred leaders."""
    wanted = {tp: list(ids) for tp, ids in all.items()}
    while step := _step_of_replicas(wanted, brokers, sizes):
        tp, source, target = step
        wanted[tp][wanted[tp].index(source)] = target
    while swap := _step_of_leaders(wanted, brokers):
        tp, leader = swap
        wanted[tp].remove(leader)
        wanted[tp].insert(0, leader)
    return wanted


def _step_of_replicas(
    wanted: Mapping[TopicPartition, list[int]],
    brokers: Collection[int],
    sizes: Mapping[TopicPartition, int],
) -> tuple[TopicPartition, int, int] | None:
    load = Counter(dict.fromkeys(brokers, 0))
    of_topic: Counter[tuple[str, int]] = Counter()
    for tp, ids in wanted.items():
        load.update(id for id in ids if id in brokers)
        of_topic.update((tp.topic, id) for id in ids)
    ordered = sorted(brokers, key=lambda broker: (load[broker], broker))
    for target in ordered:
        for source in reversed(ordered):
            if load[source] - load[target] < 2:
                break
            movable = [tp for tp, ids in wanted.items() if source in ids and target not in ids]
            if movable:
                best = min(
                    movable,
                    key=lambda tp: (
                        of_topic[tp.topic, target] - of_topic[tp.topic, source],
                        sizes.get(tp, 0),
                        tp,
                    ),
                )
                return best, source, target
    return None


def _step_of_leaders(
    wanted: Mapping[TopicPartition, list[int]], brokers: Collection[int]
) -> tuple[TopicPartition, int] | None:
    leads = Counter(dict.fromkeys(brokers, 0))
    leads.update(ids[0] for ids in wanted.values() if ids[0] in brokers)
    ordered = sorted(brokers, key=lambda broker: (leads[broker], broker))
    for target in ordered:
        for source in reversed(ordered):
            if leads[source] - leads[target] < 2:
                break
            for tp, ids in sorted(wanted.items()):
                if ids[0] == source and target in ids:
                    return tp, target
    return None


# --- Kafka's own format -----------------------------------------------------------------------


class _FilePartition(msgspec.Struct):
    topic: str
    partition: int
    replicas: list[int]


class _File(msgspec.Struct):
    partitions: list[_FilePartition]
    version: int = 1


def from_json(text: bytes, name: str) -> dict[TopicPartition, list[int]]:
    """What a file of this `name` says. UsageError when it is not one."""
    try:
        file = msgspec.json.decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is not a reassignment", str(error), _EXAMPLE, 2) from None
    wanted: dict[TopicPartition, list[int]] = {}
    for each in file.partitions:
        tp = TopicPartition(each.topic, each.partition)
        if tp in wanted:
            raise UsageError(f"{name} names {tp} twice", "each partition stands once", _EXAMPLE, 2)
        wanted[tp] = each.replicas
    return wanted


def to_json(all: Assignments) -> bytes:
    """For `kcluster reassign -f`, and for Kafka's own tool."""
    parts = [_FilePartition(*tp, list(ids)) for tp, ids in sorted(all.items())]
    return msgspec.json.encode(_File(parts))


_EXAMPLE = '{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,2,3]}]}'


def throttled(found: Iterable[Move]) -> dict[str, tuple[str, str]]:
    """By topic, what its `leader.` and `follower.replication.throttled.replicas` say: leaders hold
    back what goes to those that are added (KIP-73)."""
    leaders: dict[str, list[str]] = {}
    followers: dict[str, list[str]] = {}
    for move in found:
        leaders.setdefault(move.topic, []).extend(f"{move.partition}:{id}" for id in move.before)
        followers.setdefault(move.topic, []).extend(f"{move.partition}:{id}" for id in move.adding)
    return {name: (",".join(leaders[name]), ",".join(followers[name])) for name in leaders}


def _brokers(ids: Collection[int]) -> str:
    some = f"{len(ids)} brokers" if len(ids) != 1 else "one broker"
    return f"{some} ({', '.join(map(str, sorted(ids)))})" if ids else "no broker"
