"""Leader state alone: high watermark, ISR, and the clock of being caught up."""

from __future__ import annotations

from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.replication.leader import LeaderState
from kcluster.core.replication.progress import Progress
from kcluster.wire.bus import IsrOutcome

LAG_MS = 10_000


class Everyone:
    """All brokers are members; incarnation 1 of broker n has epoch 10 n."""

    def __init__(self, *fenced: int) -> None:
        self.fenced = fenced

    def epoch_of(self, broker_id: int, incarnation: int) -> int:
        return -1 if broker_id in self.fenced or incarnation != 1 else 10 * broker_id

    def registered_epoch(self, broker_id: int) -> int:
        return 10 * broker_id


def leader(
    isr: list[int], *, min_isr: int = 1, end: int = 0, high_watermark: int = 0
) -> LeaderState:
    state = PartitionChanged(bytes(16), 0, [1, 2, 3], isr, 1, 5, 7)
    return LeaderState(1, state, end, end, high_watermark, min_isr, 0)


def opened(state: LeaderState, broker: int, log_end: int, now_ms: int = 0) -> Progress:
    follower = state.followers[broker]
    follower.opened(1, log_end, state.position, now_ms)
    follower.stream = object()  # type: ignore[assignment]
    return follower


def test_the_high_watermark_is_the_least_position_of_the_isr() -> None:
    state = leader([1, 2, 3])
    state.moved(10, 0)
    opened(state, 2, 7)
    assert not state.advance(0, LAG_MS, Everyone())
    opened(state, 3, 4)
    assert state.advance(0, LAG_MS, Everyone())
    assert state.high_watermark == 4


def test_it_waits_for_one_outside_the_isr_that_keeps_up() -> None:
    state = leader([1, 2])
    opened(state, 2, 0)
    opened(state, 3, 0)
    state.moved(10, 1)
    state.followers[2].moved(10, 10, 2)
    assert not state.advance(2, LAG_MS, Everyone())
    # Fenced, it cannot join, and nobody waits for it; nor for one that stopped keeping up.
    assert state.advance(2, LAG_MS, Everyone(3))
    state.moved(20, 3)
    state.followers[2].moved(20, 20, 4)
    assert state.advance(LAG_MS + 2, LAG_MS, Everyone())
    assert state.high_watermark == 20


def test_it_never_falls_within_an_epoch() -> None:
    state = leader([1, 2], end=10, high_watermark=8)
    opened(state, 2, 5)
    assert not state.advance(0, LAG_MS, Everyone())
    assert state.high_watermark == 8


def test_it_stands_still_while_the_committed_isr_is_too_small() -> None:
    state = leader([1], min_isr=2)
    state.moved(10, 0)
    assert not state.advance(0, LAG_MS, Everyone())
    assert state.committed((1, 2), 8)
    opened(state, 2, 10)
    assert state.advance(0, LAG_MS, Everyone())


def test_a_proposed_member_counts_at_once_and_a_proposed_shrink_only_when_granted() -> None:
    state = leader([1, 2])
    opened(state, 2, 0)
    follower = opened(state, 3, 0)
    assert state.propose_expansion(follower, 0, Everyone())
    assert state.maximal_isr == {1, 2, 3}
    change = state.change_to_send(0)
    assert change is not None
    assert change.isr_broker_epochs == [10, 20, 30]
    assert state.change_to_send(1) is None
    proposal = state.proposal
    assert proposal is not None
    assert state.decided(proposal, IsrOutcome(bytes(16), 0, 0, 5, 8, [1, 2, 3]), 2)
    state.moved(5, 3)
    assert state.lagging(3 + LAG_MS, LAG_MS) == []
    assert state.lagging(4 + LAG_MS, LAG_MS) == [2, 3]
    assert state.propose_shrink([2, 3], 4 + LAG_MS, Everyone())
    assert state.maximal_isr == {1, 2, 3}
    assert state.isr == (1, 2, 3)


def test_nobody_joins_below_the_high_watermark_or_the_epochs_start() -> None:
    state = leader([1, 2], end=10, high_watermark=6)
    follower = opened(state, 3, 5)
    assert not state.may_join(follower)
    follower.moved(8, 10, 0)
    assert not state.may_join(follower)
    follower.moved(10, 10, 0)
    assert state.may_join(follower)
    follower.stream = None
    assert not state.may_join(follower)


def test_another_incarnation_does_not_join_on_the_position_of_the_old_one() -> None:
    state = leader([1, 2])
    follower = opened(state, 3, 0)
    follower.incarnation = 2
    assert not state.propose_expansion(follower, 0, Everyone())


def test_metadata_and_answer_may_come_in_either_order() -> None:
    state = leader([1, 2])
    assert state.propose_expansion(opened(state, 3, 0), 0, Everyone())
    proposal = state.proposal
    assert proposal is not None
    assert state.committed((1, 2, 3), 8)
    assert not state.decided(proposal, IsrOutcome(bytes(16), 0, 0, 5, 8, [1, 2, 3]), 0)
    assert not state.committed((1, 2), 7)
    assert state.isr == (1, 2, 3)


def test_the_first_write_after_a_quiet_hour_does_not_make_followers_late() -> None:
    state = leader([1, 2, 3])
    opened(state, 2, 0)
    opened(state, 3, 0)
    state.moved(1, 3_600_000)
    assert state.lagging(3_600_001, LAG_MS) == []


def test_a_follower_under_constant_load_is_caught_up_although_never_at_the_end() -> None:
    state = leader([1, 2, 3])
    follower = opened(state, 2, 0)
    for now_ms in range(0, 60_000, 100):
        state.moved(state.position + 10, now_ms)
        # Always three rounds behind.
        follower.moved(max(state.position - 30, 0), state.position, now_ms)
    assert 2 not in state.lagging(60_000, 1000)


def test_a_follower_that_falls_ever_further_behind_is_late() -> None:
    state = leader([1, 2, 3])
    follower = opened(state, 2, 0)
    for now_ms in range(0, 60_000, 100):
        state.moved(state.position + 10, now_ms)
        follower.moved(now_ms // 100, state.position, now_ms)
    assert 2 in state.lagging(60_000, 10_000)


def test_batches_of_a_turn_are_joined_while_they_are_small() -> None:
    state = leader([1])
    state.staged(0, 1, b"a" * 1000)
    state.staged(1, 2, b"b" * 1000)
    state.staged(2, 3, b"c" * 300_000)
    assert state.written_tail() == []
    state.moved(3, 0)
    assert [(end, len(buffer)) for end, buffer in state.written_tail()] == [(2, 2000), (3, 300_000)]
