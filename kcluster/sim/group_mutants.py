"""Bugs of groups, put back, as in `mutants`: simulated groups must catch them."""

from __future__ import annotations

from typing import Any

from kcluster.core.client.consumer import From, Place
from kcluster.core.client.group_consumer import GroupConsumerCore
from kcluster.core.groups import commits
from kcluster.core.groups.consumer.group import ConsumerGroup
from kcluster.core.groups.offsets import Offsets
from kcluster.core.groups.shard import Shard
from kcluster.errors import ErrorCode
from kcluster.sim.mutant import Mutant, always, by_name, patch

GROUPS = 2
CONSUMER_GROUPS = 2


def _answers_at_once(was: Any) -> Any:
    def append(self: Any, turn: Any, batch: Any, done: Any) -> Any:
        base_offset = was(self, turn, batch, None)
        if done is not None:
            done(turn, ErrorCode.NONE)
        return base_offset

    return append


def _shows_what_is_staged(was: Any) -> Any:
    return lambda self, place, high_watermark: was(self, place, 1 << 62)


def _begins_at_the_end(was: Any) -> Any:
    def begin(self: Any, tp: Any, committed: int, now_ms: int) -> None:
        if tp in self.membership.owned:
            self.consumer.add(tp, From(Place.END), now_ms)

    return begin


GROUP_MUTANTS = by_name(
    Mutant(
        "group-answers-early",
        "a group's records are answered before they are committed",
        "lost-commit, rule 7", (), patch(Shard, "append", _answers_at_once), GROUPS,
    ),
    Mutant(
        "anybody-commits",
        "offsets are taken from members of whatever generation",
        "stale-commit, lost-commit", (), patch(commits, "_check", always(None)), GROUPS,
    ),
    Mutant(
        "shows-staged-offsets",
        "offsets are shown before they are committed",
        "lost-commit, rule 7", (), patch(Offsets, "settle", _shows_what_is_staged), GROUPS,
    ),
    Mutant(
        "gives-before-it-is-free",
        "a partition is given to a member while its former owner has it still",
        "two-holders", (), patch(ConsumerGroup, "is_free", always(True)), None, CONSUMER_GROUPS,
    ),
    Mutant(
        "any-epoch-commits",
        "offsets are taken from members of the consumer protocol that are not in the group",
        "stale-commit, lost-commit", (), patch(commits, "_check_consumer", always(None)), None,
        CONSUMER_GROUPS,
    ),
    Mutant(
        "begins-at-the-end",
        "a member reads from the end of a partition and not from what was committed",
        "skipped-record", (), patch(GroupConsumerCore, "_begin", _begins_at_the_end), GROUPS,
    ),
)  # fmt: skip
