"""Bugs of groups, each behind a switch, as in `mutants`: simulated groups must catch them."""

from __future__ import annotations

from typing import Any

from kcluster.core.client.consumer import From, Place
from kcluster.core.client.group_consumer import GroupConsumerCore
from kcluster.core.groups import commits
from kcluster.core.groups.offsets import Offsets
from kcluster.core.groups.shard import Shard
from kcluster.errors import ErrorCode
from kcluster.sim.mutants import Mutant


def _answers_at_once(was: Any) -> Any:
    def append(self: Any, turn: Any, batch: Any, done: Any) -> Any:
        base_offset = was(self, turn, batch, None)
        if done is not None:
            done(turn, ErrorCode.NONE)
        return base_offset

    return append


def _lets_anybody_commit(was: Any) -> Any:
    return lambda *_: None


def _shows_what_is_staged(was: Any) -> Any:
    return lambda self, place, high_watermark: was(self, place, 1 << 62)


def _begins_at_the_end(was: Any) -> Any:
    def begin(self: Any, tp: Any, committed: int, now_ms: int) -> None:
        if tp in self.membership.owned:
            self.consumer.add(tp, From(Place.END), now_ms)

    return begin


GROUP_MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant("a group's records are answered before they are committed", "lost-commit", Shard,
               "append", _answers_at_once),
        Mutant("anybody commits, of whatever generation", "stale-commit, lost-commit", commits,
               "_check", _lets_anybody_commit, False),
        Mutant("offsets are shown before they are committed", "lost-commit", Offsets, "settle",
               _shows_what_is_staged),
        Mutant("a partition is read from its end, not from the commit", "skipped-record",
               GroupConsumerCore, "_begin", _begins_at_the_end),
    )
}  # fmt: skip
