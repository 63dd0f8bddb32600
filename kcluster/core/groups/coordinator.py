"""All groups that this broker coordinates: the shards of the partitions of `__consumer_offsets`
that it leads, and the way from a group's id to its shard.

A request for a group is carried out by `serve`: at once, or when its shard has been loaded; what
it raises is its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from kcluster.core.groups.settings import GroupSettings
from kcluster.core.groups.shard import AnyGroup, Journal, Phase, Shard
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.purgatory import Deadlines
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode


def java_hash(text: str) -> int:
    """`String.hashCode` of Java: over UTF-16 code units, in 32 bits, here without the sign."""
    value = 0
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    for unit in units:
        value = value * 31 + unit & 0xFFFFFFFF
    return value


def partition_of(group_id: str, partitions: int) -> int:
    """Which partition of `__consumer_offsets` a group belongs to (Kafka's `Utils.abs`)."""
    return (java_hash(group_id) & 0x7FFFFFFF) % partitions


class GroupCoordinator:
    def __init__(
        self,
        deadlines: Deadlines,
        random: Random,
        settings: Callable[[], GroupSettings],
        partitions: Callable[[], int],
        image: Callable[[], ClusterImage] = ClusterImage,
    ) -> None:
        """`partitions` of `__consumer_offsets`, 0 while there is no such topic."""
        self._deadlines = deadlines
        self._random = random
        self._settings = settings
        self._partitions = partitions
        self._image = image
        self._topic_names: set[str] = set()
        """Of the topics that there were when some had changed last."""
        self.shards: dict[int, Shard] = {}

    # --- leaderships ----------------------------------------------------------------------

    def open(self, turn: Turn, journal: Journal) -> Shard:
        """This broker leads a partition now. The caller has the shard load."""
        self.close(turn, journal.partition)
        shard = Shard(journal, self._deadlines, self._random, self._settings(), self._image)
        self.shards[journal.partition] = shard
        return shard

    def close(self, turn: Turn, partition: int) -> None:
        shard = self.shards.pop(partition, None)
        if shard is not None:
            shard.close(turn)

    # --- groups ---------------------------------------------------------------------------

    def shard_of(self, group_id: str) -> Shard | None:
        """None when another broker coordinates the group, or none."""
        partitions = self._partitions()
        if not partitions:
            return None
        return self.shards.get(partition_of(group_id, partitions))

    def serve(
        self,
        turn: Turn,
        group_id: str,
        act: Callable[[Turn, Shard], None],
        refuse: Callable[[Turn, ErrorCode], None],
    ) -> None:
        """Call `act` with the group's shard, once it is loaded. An ApiError, of `act` or because
        there is none, goes to `refuse`."""
        shard = self.shard_of(group_id)
        if shard is None:
            refuse(turn, ErrorCode.NOT_COORDINATOR)
            return

        def attempt(later: Turn) -> None:
            try:
                shard.check_active()
                act(later, shard)
            except ApiError as error:
                refuse(later, error.code)

        if shard.phase is Phase.LOADING:
            shard.park(turn, attempt)
        else:
            attempt(turn)

    def all_groups(self) -> Iterator[AnyGroup]:
        """Raises ApiError COORDINATOR_LOAD_IN_PROGRESS while a shard is not loaded: a list that
        leaves some out would be a lie."""
        for _, shard in sorted(self.shards.items()):
            shard.check_active()
            for _, group in sorted(shard.groups.items()):
                if not group.is_unused:
                    yield group

    # --- time and metadata ----------------------------------------------------------------

    def expire(self, turn: Turn) -> bool:
        """Whether there may be more that is due."""
        settings = self._settings()
        has_more = False
        for shard in self.shards.values():
            shard.settings = settings
            has_more |= shard.expire(turn)
        return has_more

    def renew_sessions(self, turn: Turn) -> None:
        for shard in self.shards.values():
            shard.renew_sessions(turn)

    def topics_changed(self, topics: set[str]) -> None:
        names = self._image().topics.keys()
        are_others = names != self._topic_names
        if are_others:
            self._topic_names = set(names)
        for shard in self.shards.values():
            shard.topics_changed(topics, are_others=are_others)

    def topics_deleted(self, turn: Turn, topics: set[str]) -> None:
        for shard in self.shards.values():
            shard.topics_deleted(turn, topics)
