"""What a group has committed: read when a partition is assigned, written as records are done.

    read     OffsetFetch until the coordinator says; -1 for what was never committed
    done     the next offset to be read, once everything below it is done with
    commit   OffsetCommit of all that is done, one at a time: what is refused for now, or whose
             answer is lost, is followed by the newest positions and never by older ones

Bounds: one OffsetFetch and one OffsetCommit in flight; one position a partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kcluster.core.client.consumer_membership import ConsumerMembership
from kcluster.core.client.coordination import NOT_YET, Coordination
from kcluster.core.client.membership import Membership
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_fetch as of

OFFSET_FETCH_VERSION: Final = 9
OFFSET_COMMIT_VERSION: Final = 9
"""The first for members of the consumer protocol; later ones name topics by id."""


class GroupOffsets:
    def __init__(
        self,
        coordination: Coordination,
        membership: Membership | ConsumerMembership,
        on_read: Callable[[TopicPartition, int, int], None],
    ) -> None:
        """`on_read(tp, committed offset or -1, now_ms)`."""
        self.committed: dict[TopicPartition, int] = {}
        """Acknowledged, of partitions that are followed."""
        self.acknowledged: list[tuple[TopicPartition, int]] = []
        """Commits acknowledged since the owner looked, in order."""
        self._coordination = coordination
        self._exchange = coordination.exchange
        self._membership = membership
        self._on_read = on_read
        self._done: dict[TopicPartition, int] = {}
        self._unread: dict[TopicPartition, int] = {}
        """With a number for each time that it was followed: an answer to an earlier one is old."""
        self._follows = 0
        self._is_reading = False
        self._is_committing = False
        self._read_at_ms = 0
        self._commit_at_ms = 0

    # --- what the owner does

    def follow(self, partitions: Iterable[TopicPartition]) -> None:
        """Read what is committed of these."""
        self._follows += 1
        self._unread.update(dict.fromkeys(partitions, self._follows))

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._unread.pop(tp, None)
            self._done.pop(tp, None)
            self.committed.pop(tp, None)

    def done(self, tp: TopicPartition, offset: int) -> None:
        """Everything below `offset` is done with."""
        self._done[tp] = max(offset, self._done.get(tp, -1))

    def move(self, tp: TopicPartition, offset: int) -> None:
        """To be committed next, also where that is less than what was done."""
        self._done[tp] = offset

    def rewind(self, tp: TopicPartition) -> None:
        """The owner goes on elsewhere: what is done next counts, also where that is less."""
        self._done.pop(tp, None)

    def position(self, tp: TopicPartition) -> int | None:
        """Committed, or to be; None when neither is known."""
        return self._done.get(tp, self.committed.get(tp))

    def is_committed(self, partitions: Iterable[TopicPartition]) -> bool:
        """Nothing is done of these that is not acknowledged, and nothing under way."""
        return not self._is_committing and not any(tp in self.uncommitted() for tp in partitions)

    def read_deadline(self) -> int | None:
        """When `read` has something to do; None: not before something arrives."""
        if self._unread and not self._is_reading and self._coordination.is_known:
            return self._read_at_ms
        return None

    def commit_deadline(self) -> int | None:
        """When `commit` has something to do, were it called at once."""
        if self._is_committing or not self._coordination.is_known or not self.uncommitted():
            return None
        return self._commit_at_ms

    def read(self, now_ms: int) -> None:
        """Ask for what is not read yet, when that may be asked."""
        if not self._unread or self._is_reading or now_ms < self._read_at_ms:
            return
        if not self._coordination.is_known:
            self._coordination.find(now_ms)
            return
        self._is_reading = True
        wanted = dict(self._unread)
        self._coordination.ask(
            fetch_request(self._coordination.group, wanted, self._membership),
            OFFSET_FETCH_VERSION,
            of.OffsetFetchResponse,
            lambda response, now_ms: self._read(wanted, response, now_ms),
            now_ms=now_ms,
        )

    def commit(self, now_ms: int) -> bool:
        """Everything that is done and not committed; False when that may not be asked now."""
        if self._is_committing or now_ms < self._commit_at_ms or not self._coordination.is_known:
            return False
        wanted = self.uncommitted()
        if not wanted:
            return False
        self._is_committing = True
        member = self._membership.member_id, self._membership.generation
        self._coordination.ask(
            oc.OffsetCommitRequest(
                group_id=self._coordination.group,
                generation_id_or_member_epoch=self._membership.generation,
                member_id=self._membership.member_id,
                group_instance_id=self._membership.settings.instance_id,
                topics=[
                    oc.OffsetCommitRequestTopic(
                        name=topic,
                        partitions=[
                            oc.OffsetCommitRequestPartition(
                                partition_index=index,
                                committed_offset=wanted[TopicPartition(topic, index)],
                            )
                            for index in indexes
                        ],
                    )
                    for topic, indexes in by_topic(wanted).items()
                ],
            ),
            OFFSET_COMMIT_VERSION,
            oc.OffsetCommitResponse,
            lambda response, now_ms: self._committed(wanted, member, response, now_ms),
            now_ms=now_ms,
        )
        return True

    # --- answers

    def _read(
        self,
        wanted: dict[TopicPartition, int],
        response: of.OffsetFetchResponse | None,
        now_ms: int,
    ) -> None:
        self._is_reading = False
        self._read_at_ms = now_ms + self._exchange.patience.backoff_ms
        if response is None:
            return
        code, found = fetched(response)
        if code:
            self._coordination.refused(code, now_ms)
            if code not in NOT_YET:
                self._membership.refused(code, now_ms)
            return
        for tp, partition in found:
            if self._unread.get(tp) != wanted.get(tp) or partition.error_code:
                continue
            self._unread.pop(tp, None)
            if partition.committed_offset >= 0:
                self.committed[tp] = partition.committed_offset
            self._on_read(tp, partition.committed_offset, now_ms)

    def _committed(
        self,
        wanted: dict[TopicPartition, int],
        member: tuple[str, int],
        response: oc.OffsetCommitResponse | None,
        now_ms: int,
    ) -> None:
        self._is_committing = False
        self._commit_at_ms = now_ms
        if response is None:
            return
        refusals: list[ErrorCode] = []
        for topic in response.topics:
            for partition in topic.partitions:
                tp = TopicPartition(topic.name, partition.partition_index)
                code = ErrorCode(partition.error_code)
                if code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                    self._done.pop(tp, None)  # Deleted, or it will be known by the next record.
                    continue
                if code:
                    refusals.append(code)
                    continue
                self.acknowledged.append((tp, wanted[tp]))
                if tp in self._done:
                    self.committed[tp] = wanted[tp]
        for code in sorted(set(refusals)):
            self._commit_at_ms = now_ms + self._exchange.patience.backoff_ms
            if code in NOT_YET:
                self._coordination.refused(code, now_ms)
            elif member == (self._membership.member_id, self._membership.generation):
                self._membership.refused(code, now_ms)

    def uncommitted(self) -> dict[TopicPartition, int]:
        return {tp: offset for tp, offset in self._done.items() if self.committed.get(tp) != offset}


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for tp in sorted(partitions):
        topics.setdefault(tp.topic, []).append(tp.partition)
    return topics


def fetch_request(
    group: str,
    partitions: Iterable[TopicPartition] | None,
    membership: Membership | ConsumerMembership | None = None,
) -> of.OffsetFetchRequest:
    """Of these partitions, or (None) of all that the group has committed; in the form of the
    versions before 8 as well, which had one group."""
    wanted = None if partitions is None else by_topic(partitions)
    # Of a classic member nothing is said: it is known by its commits only.
    member = membership if isinstance(membership, ConsumerMembership) else None
    return of.OffsetFetchRequest(
        group_id=group,
        topics=None
        if wanted is None
        else [
            of.OffsetFetchRequestTopic(name=topic, partition_indexes=indexes)
            for topic, indexes in wanted.items()
        ],
        groups=[
            of.OffsetFetchRequestGroup(
                group_id=group,
                member_id=None if member is None else member.member_id,
                member_epoch=-1 if member is None else member.generation,
                topics=None
                if wanted is None
                else [
                    of.OffsetFetchRequestTopics(name=topic, partition_indexes=indexes)
                    for topic, indexes in wanted.items()
                ],
            )
        ],
        require_stable=True,
    )


def fetched(
    response: of.OffsetFetchResponse,
) -> tuple[
    ErrorCode,
    list[tuple[TopicPartition, of.OffsetFetchResponsePartition | of.OffsetFetchResponsePartitions]],
]:
    """(the refusal of the whole, what each partition has) of a group, in whichever form."""
    answer: of.OffsetFetchResponse | of.OffsetFetchResponseGroup = response
    if response.groups:
        [answer] = response.groups
    return ErrorCode(answer.error_code), [
        (TopicPartition(topic.name, partition.partition_index), partition)
        for topic in answer.topics
        for partition in topic.partitions
    ]
