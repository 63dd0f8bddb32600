"""The leader epoch cache against two plain lists: of (epoch, start offset), and of the epoch of
each record; and two of them against each other, until their logs agree.

The lists are kept by the rules of KIP-101 and KIP-279 as they are written: an answer is the
largest epoch that is not above the one that was asked for, and where the next one starts.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kcluster.core.log.leader_epochs import UNDEFINED, LeaderEpochs
from tests.core.log.test_index_model import EXAMPLES


class EpochMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache = LeaderEpochs()
        self.entries: list[tuple[int, int]] = []
        self.records: list[int] = []
        """Epoch of the record at each offset from 0 on, also of those below the log start."""
        self.start = 0
        self.epoch = 0

    @property
    def end(self) -> int:
        return len(self.records)

    def _begin(self, epoch: int) -> None:
        if self.entries and self.entries[-1][0] == epoch:
            return
        self.entries = [e for e in self.entries if e[0] <= epoch and e[1] < self.end]
        if not self.entries or self.entries[-1][0] < epoch:
            self.entries.append((epoch, self.end))

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        self.cache.assign(self.epoch, self.end)
        self._begin(self.epoch)
        self.records += [self.epoch] * count

    @rule(later=st.integers(1, 3))
    def lead(self, later: int) -> None:
        """With or without records to come: both are kept."""
        self.epoch += later
        assert self.cache.assign(self.epoch, self.end)
        self._begin(self.epoch)

    @precondition(lambda self: self.end > self.start)
    @rule(data=st.data())
    def follow_an_older_leader(self, data: st.DataObject) -> None:
        """It led an epoch in which it wrote nothing, and another's records go on behind the
        last of its own."""
        last = self.records[-1]
        self.epoch = data.draw(st.integers(last, self.epoch))
        self.append(1)

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        end = data.draw(st.integers(self.start, self.end))
        keeps_start = data.draw(st.booleans())
        del self.records[end:]
        kept = [e for e in self.entries if e[1] < end or (keeps_start and e[1] == end)]
        assert self.cache.truncate_from_end(end, keeps_start=keeps_start) == (kept != self.entries)
        self.entries = kept

    @rule(data=st.data())
    def advance_start(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(self.start, self.end))
        below = [e for e in self.entries if e[1] <= start]
        kept = [e for e in self.entries if e[1] > start]
        if below:
            kept.insert(0, (below[-1][0], start))
        assert self.cache.truncate_from_start(start) == (kept != self.entries)
        self.entries, self.start = kept, start

    @rule(start=st.integers(0, 30))
    def clear(self, start: int) -> None:
        assert self.cache.clear() == bool(self.entries)
        self.entries, self.start, self.records = [], start, [-1] * start

    @rule()
    def come_back(self) -> None:
        self.cache = LeaderEpochs.decode(self.cache.encode())

    @rule(asked=st.integers(-1, 40))
    def answer(self, asked: int) -> None:
        known = [number for number, (epoch, _) in enumerate(self.entries) if epoch <= asked]
        expected = UNDEFINED
        if known:
            following = known[-1] + 1
            end = self.entries[following][1] if following < len(self.entries) else self.end
            expected = self.entries[known[-1]][0], end
        assert self.cache.end_offset_for(asked, self.end) == expected

    @invariant()
    def cache_is_the_list(self) -> None:
        assert self.cache.entries() == self.entries
        assert self.cache.latest == (self.entries[-1][0] if self.entries else -1)

    @invariant()
    def every_record_has_its_epoch_and_every_epoch_its_end(self) -> None:
        for offset in range(self.start, self.end):
            assert self.cache.epoch_of(offset) == self.records[offset]
        for epoch in set(self.records[self.start :]):
            last = max(n for n, e in enumerate(self.records) if e == epoch)
            assert self.cache.end_offset_for(epoch, self.end) == (epoch, last + 1)


EpochMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
TestEpochsAgainstLists = EpochMachine.TestCase

RUNS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=5)
"""(how much later the epoch, how many records)"""


def _written(shared: list[int], runs: list[tuple[int, int]], parity: int) -> list[int]:
    """Records behind `shared`; an epoch has one leader, so two logs never write in the same."""
    log, epoch = list(shared), max(shared, default=0)
    for later, count in runs:
        epoch += later
        log += [epoch * 2 + parity] * count
    return log


def _cache(log: list[int]) -> LeaderEpochs:
    cache = LeaderEpochs()
    for offset, epoch in enumerate(log):
        cache.assign(epoch, offset)
    return cache


@settings(max_examples=EXAMPLES * 5)
@given(RUNS, RUNS, RUNS)
def test_two_logs_agree_after_the_dialogue_and_keep_all_that_they_share(
    shared: list[tuple[int, int]], leads: list[tuple[int, int]], follows: list[tuple[int, int]]
) -> None:
    """KIP-279: the follower cuts to the lower of the leader's answer and its own end of that
    epoch, and asks again until the answer is about the epoch of its last record."""
    common = _written([], shared, 0)
    leader, follower = _written(common, leads, 0), _written(common, follows, 1)
    their, mine = _cache(leader), _cache(follower)
    for _ in range(len(follower) + 1):
        last = follower[-1] if follower else -1
        epoch, end = their.end_offset_for(last, len(leader))
        own_epoch, own_end = mine.end_offset_for(epoch, len(follower))
        target = min(end, own_end) if own_epoch >= 0 else 0
        if epoch == last and target >= len(follower):
            break
        assert target < len(follower) or epoch != last, "each answer cuts, or is the last"
        del follower[min(target, len(follower)) :]
        mine.truncate_from_end(len(follower))
        if not follower:
            break
    assert follower == leader[: len(follower)]
    assert follower[: len(common)] == common
