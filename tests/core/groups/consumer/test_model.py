"""A consumer group under whatever may come, in any order: its partitions have one owner each.

Members say what they own truthfully, or late: what they have been told to give up they may keep
for a while. Coordinators fail over with all that was committed. `MODEL_EXAMPLES` says how many.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kcluster.core.groups.shard import Phase
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import Subscription, decode_assignment, encode_subscription
from kcluster.wire.records import Record
from tests.core.groups.consumer.playbook import Beaten, ConsumerStory, Heart, Topics
from tests.core.groups.playbook import (
    Beat,
    Fail,
    FailOver,
    FakeJournal,
    Join,
    Joined,
    Ok,
    Sync,
    Synced,
    Wait,
)

NAMES = "abc"
CLASSIC = "xy"


def compacted(records: list[Record]) -> list[Record]:
    last = {record.key: at for at, record in enumerate(records)}
    return [record for at, record in enumerate(records) if last[record.key] == at]


class ConsumerGroupModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.story = ConsumerStory({"orders": 3, "clicks": 2})
        self.kept: dict[str, set[tuple[str, int]]] = {}
        """What each member reads: until it hears that it may not, or is out."""
        self.lost: set[str] = set()
        """Who may have been taken out without a word: others may have what it reads."""

    def say(self, event: Any) -> Any:
        self.story >> event
        told = self.story.forget_all()
        return told[0] if told else None

    def heard(self, name: str, answer: Any, *, is_slow: bool) -> None:
        if isinstance(answer, Beaten):
            if answer.owned is not None:
                given = {(topic, i) for topic, parts in answer.owned.items() for i in parts}
                mine = self.kept.setdefault(name, set())
                self.kept[name] = mine | given if is_slow else given
        else:
            # Fenced, unknown, refused: it abandons what it has and joins again.
            self.kept.pop(name, None)
            self.story.epochs.pop(name, None)

    def owned(self, name: str) -> dict[str, list[int]]:
        owned: dict[str, list[int]] = {}
        for topic, index in sorted(self.kept.get(name, ())):
            if topic in self.story.image.topics:
                owned.setdefault(topic, []).append(index)
        return owned

    @rule(
        name=st.sampled_from(NAMES),
        topics=st.none() | st.sampled_from([["orders"], ["orders", "clicks"], ["later"]]),
        pattern=st.none() | st.sampled_from(["", "o.*", ".*s"]),
        is_slow=st.booleans(),
    )
    def heart(
        self, name: str, topics: list[str] | None, pattern: str | None, is_slow: bool
    ) -> None:
        joins = not self.story.epochs.get(name)
        if joins:
            self.kept.pop(name, None)
        event = Heart(name, topics, pattern, owned={} if joins else self.owned(name))
        self.heard(name, self.say(event), is_slow=is_slow)

    @rule(name=st.sampled_from(NAMES))
    def gives_up(self, name: str) -> None:
        """What it was told last is what it reads."""
        given = self.story.owned.get(name, {})
        self.kept[name] = self.kept.get(name, set()) & {
            (topic, index) for topic, parts in given.items() for index in parts
        }

    @rule(name=st.sampled_from(NAMES), is_static=st.booleans())
    def leave(self, name: str, is_static: bool) -> None:
        if self.story.epochs.get(name):
            self.say(Heart(name, epoch=-1))
            self.kept.pop(name, None)
            self.story.epochs.pop(name, None)

    @rule(name=st.sampled_from(CLASSIC))
    def classic_joins(self, name: str) -> None:
        """A cooperative one: it keeps what it has until SyncGroup tells what it may keep."""
        owned = [TopicPartition(*part) for part in sorted(self.kept.get(name, ()))]
        metadata = encode_subscription(Subscription(["orders"], owned))
        answer = self.say(Join(name, protocols=["cooperative-sticky"], metadata=metadata))
        if isinstance(answer, Joined):
            if self.story.shard.find_consumer("g") is None:
                return
            synced = self.say(Sync(name))
            if isinstance(synced, Synced):
                self.kept[name] = {tuple(tp) for tp in decode_assignment(synced.assignment)}
        else:
            self.kept.pop(name, None)
            self.story.ids.pop(name, None)

    @rule(name=st.sampled_from(CLASSIC))
    def classic_beats(self, name: str) -> None:
        if self.story.shard.find_consumer("g") is None:
            self.kept.pop(name, None)
            return
        answer = self.say(Beat(name))
        if not isinstance(answer, Ok) and answer.error.name != "REBALANCE_IN_PROGRESS":
            self.kept.pop(name, None)
            self.story.ids.pop(name, None)

    @rule(topics=st.sampled_from([{"orders": 3, "clicks": 2}, {"orders": 4, "later": 1}]))
    def topics(self, topics: dict[str, int]) -> None:
        if "clicks" not in topics or len(self.story.image.topics["orders"].partitions) == 4:
            topics = {"orders": 4, "later": 1}
        self.say(Topics(topics))
        for parts in self.kept.values():
            parts.difference_update({part for part in parts if part[0] not in topics})

    @rule(ms=st.sampled_from([1_000, 20_000, 70_000]))
    def wait(self, ms: int) -> None:
        self.say(Wait(ms))
        self.lose_who_is_out()

    @rule()
    def fail(self) -> None:
        if not self.story.journal.failures:
            self.say(Fail())

    @rule()
    def fail_over(self) -> None:
        self.story.journal.failures.clear()
        self.say(FailOver())
        assert self.story.shard.phase is Phase.ACTIVE

    def lose_who_is_out(self) -> None:
        """As if it had noticed: whoever stands still reads on, and is fenced when it commits."""
        group = self.story.shard.find_consumer("g")
        members = group.members if group is not None else {}
        for name in list(self.kept):
            if self.story.ids.get(name) not in members:
                del self.kept[name]

    @invariant()
    def partitions_have_one_owner(self) -> None:
        self.lose_who_is_out()
        group = self.story.shard.find_consumer("g")
        if group is None:
            return
        self.story.check_owners()
        read: dict[tuple[str, int], str] = {}
        for name, parts in self.kept.items():
            for part in parts:
                assert part not in read, (part, name, read[part])
                read[part] = name

    @invariant()
    def the_log_holds_all_of_it(self) -> None:
        group = self.story.shard.find_consumer("g")
        if group is None:
            return
        records = self.story.journal.records
        half = len(records) // 2
        for kept in (
            records,
            compacted(records),
            [record for record in compacted(records) if record.value is not None],
            compacted(records[:half]) + records[half:],
        ):
            fresh = ConsumerStory(journal=FakeJournal(kept))
            reread = fresh.shard.find_consumer("g")
            assert reread is not None
            assert reread.facts == group.facts

    def teardown(self) -> None:
        """Whoever is left comes to share everything, when nothing more happens."""
        self.story.journal.failures.clear()
        for _ in range(12):
            for name in NAMES:
                self.gives_up(name)
                joins = not self.story.epochs.get(name)
                owned = {} if joins else self.owned(name)
                topics = ["orders"] if joins else None
                event = Heart(name, topics, "" if joins else None, owned=owned)
                self.heard(name, self.say(event), is_slow=False)
            self.say(Wait(20_000))
        group = self.story.shard.find_consumer("g")
        if group is not None and not group.classic_members:
            assert self.story.state == "Stable", group.facts


ConsumerGroupModel.TestCase.settings = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
)
TestConsumerGroup = ConsumerGroupModel.TestCase
