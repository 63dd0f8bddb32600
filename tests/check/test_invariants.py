"""Each invariant is found broken by the smallest story that breaks it."""

from dataclasses import replace

import pytest

from kcluster.check.invariants import Ledger
from kcluster.check.seen import BatchSeen, InvariantViolated, Position, ReplicaSeen
from kcluster.core.metadata.records import PartitionChanged
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)
ID = bytes(16)
ALL = frozenset({1, 2, 3})


def batch(offset, epoch=0, digest=None, sequence=-1, producer=-1):
    return BatchSeen(offset, offset, epoch, digest or offset, producer, 0, sequence)


class Story:
    """Three replicas of one partition, each with a list of batches."""

    def __init__(self):
        self.ledger = Ledger()
        self.logs = {1: [], 2: [], 3: []}
        self.seen = {
            id: ReplicaSeen(id, 10 + id, TP, ID, id == 1, 0, 0, 0, 0, ALL, ALL, 2)
            for id in self.logs
        }
        self.ledger.running = {id: 10 + id for id in self.logs}
        self.ledger.registered = dict(self.ledger.running)
        self.state = PartitionChanged(ID, 0, [1, 2, 3], [1, 2, 3], 1, 0, 0)
        self.alive = ALL
        self.ledger.partition_state(TP, self.state, self.alive)
        for id in self.logs:
            self.look(id)

    def look(self, id, **changes):
        self.seen[id] = replace(self.seen[id], log_end_offset=len(self.logs[id]), **changes)
        self.ledger.replica(
            self.seen[id],
            lambda start, end: [b for b in self.logs[id] if start <= b.base_offset < end],
        )

    def write(self, *batches, ids=(1, 2, 3)):
        for id in ids:
            self.logs[id] += batches
            self.look(id)

    def decide(self, **changes):
        fields = {f: getattr(self.state, f) for f in self.state.__struct_fields__}
        fields["partition_epoch"] += 1
        self.state = PartitionChanged(**(fields | changes))
        self.ledger.partition_state(TP, self.state, self.alive)


def broken(number, story, action):
    with pytest.raises(InvariantViolated) as caught:
        action()
    assert caught.value.number == number, caught.value


def committed():
    story = Story()
    story.write(batch(0), batch(1))
    story.look(1, high_watermark=2)
    return story


def test_a_good_story_breaks_nothing():
    story = committed()
    story.look(2, high_watermark=2)
    story.decide(leader=2, leader_epoch=1, isr=[2, 3])
    story.look(2, is_leader=True, leader_epoch=1, maximal_isr=frozenset({2, 3}))


def test_a_leader_without_what_is_committed():
    story = committed()
    story.ledger.partitions[ID, 0].state = None
    story.logs[3].pop()
    story.ledger.partitions[ID, 0].replicas[3].matched_end = 0
    story.look(3)
    broken(1, story, lambda: story.look(3, is_leader=True, leader_epoch=1))


def test_a_candidate_without_what_is_committed():
    story = Story()
    story.write(batch(0), ids=(1, 2))
    broken(2, story, lambda: story.look(1, high_watermark=1))


def test_logs_that_do_not_match():
    story = committed()
    story.logs[2][1] = batch(1, digest=99)
    broken(3, story, lambda: story.look(2, high_watermark=2))


def test_a_maximal_isr_that_lacks_a_member():
    story = Story()
    broken(4, story, lambda: story.look(1, maximal_isr=frozenset({1, 2})))


def test_a_high_watermark_that_falls():
    story = committed()
    broken(5, story, lambda: story.look(1, high_watermark=1))


def test_a_follower_ahead_of_the_true_high_watermark():
    story = Story()
    story.write(batch(0))
    broken(5, story, lambda: story.look(2, high_watermark=1))


def test_a_commit_under_min_isr():
    story = Story()
    story.write(batch(0))
    story.look(1, isr=frozenset({1}))
    broken(6, story, lambda: story.look(1, high_watermark=1))


def test_a_truncation_of_what_is_committed():
    story = committed()
    story.look(2, high_watermark=2)
    story.ledger.partitions[ID, 0].state = None
    story.logs[2].pop()
    broken(8, story, lambda: story.look(2, high_watermark=1))


def test_a_change_of_the_isr_without_a_new_partition_epoch():
    story = Story()
    broken(9, story, lambda: story.decide(isr=[1, 2], partition_epoch=0))


def test_a_fenced_broker_that_joins():
    story = Story()
    story.decide(isr=[1, 2])
    story.alive = frozenset({1, 2})
    broken(10, story, lambda: story.decide(isr=[1, 2, 3]))


def test_two_writers_in_one_epoch():
    story = Story()
    broken(13, story, lambda: story.look(2, is_leader=True))


def test_a_batch_that_is_committed_twice():
    story = Story()
    story.write(batch(0, sequence=0, producer=7), batch(1, sequence=0, producer=7))
    broken(14, story, lambda: story.look(1, high_watermark=2))


def test_an_acknowledgement_of_what_is_not_committed():
    story = committed()
    story.ledger.acknowledged(TP, 1, 1)
    broken(15, story, lambda: story.ledger.acknowledged(TP, 2, 1))


def test_a_read_above_the_high_watermark():
    story = committed()
    story.ledger.consumed(TP, [batch(1)])
    broken(16, story, lambda: story.ledger.consumed(TP, [batch(2)]))


def test_two_images_at_one_offset():
    story = Story()
    story.ledger.image("broker 1", 5, 1)
    broken(17, story, lambda: story.ledger.image("broker 2", 5, 2))


def test_a_high_watermark_beyond_the_log():
    story = committed()
    broken(5, story, lambda: story.look(2, high_watermark=3))


def test_a_high_watermark_that_a_change_of_the_isr_does_not_move():
    story = Story()
    story.write(batch(0))
    story.decide(isr=[1, 2])
    positions = tuple(Position(id, 10 + id, 1, has_stream=id < 3) for id in ALL)
    shrunk = frozenset({1, 2})
    broken(4, story, lambda: story.look(1, isr=shrunk, maximal_isr=shrunk, positions=positions))
    story.look(1, isr=shrunk, maximal_isr=shrunk, positions=positions, high_watermark=1)


def test_a_leader_that_died_in_the_middle_of_its_turn_need_not_have_moved_it():
    story = Story()
    story.write(batch(0))
    story.decide(isr=[1, 2])
    positions = tuple(Position(id, 10 + id, 1, has_stream=id < 3) for id in ALL)
    shrunk = frozenset({1, 2})
    story.look(1, isr=shrunk, maximal_isr=shrunk, positions=positions, is_settled=False)


def test_a_position_that_its_follower_does_not_hold():
    story = Story()
    story.write(batch(0), ids=(1,))
    positions = (Position(2, 12, 1, has_stream=True),)
    broken(4, story, lambda: story.look(1, positions=positions))
    # Of an incarnation that is no more, nothing can be said.
    story.look(1, positions=(Position(2, 11, 1, has_stream=True),))


def test_a_follower_that_holds_what_its_leader_has_not_written():
    story = Story()
    story.look(1, positions=(Position(2, 12, 0, has_stream=True),))
    story.logs[2].append(batch(0))
    broken("rule 1", story, lambda: story.look(2))


def test_a_producer_whose_batch_is_no_longer_in_the_log():
    story = Story()
    story.write(batch(0))
    story.look(2, producers_end=1)
    broken(14, story, lambda: story.look(2, producers_end=2))


def test_a_restart_that_loses_what_was_synced():
    story = Story()
    story.write(batch(0), batch(1))
    story.look(2, flushed_end=1)
    story.ledger.running[2] = 22
    story.logs[2].pop()
    story.look(2, incarnation=22)
    story.ledger.running[2] = 32
    story.logs[2].pop()
    broken(18, story, lambda: story.look(2, incarnation=32))


def test_an_election_of_somebody_who_was_not_eligible():
    story = Story()
    story.decide(isr=[1])
    broken(12, story, lambda: story.decide(leader=2, leader_epoch=1, isr=[2], recovering=True))


def test_an_election_when_all_who_were_eligible_have_lost_data():
    story = Story()
    story.decide(isr=[], elr=[1], leader=-1, leader_epoch=1)
    story.ledger.elections.registered(1, set(), {})
    story.decide(isr=[2], elr=[], leader=2, leader_epoch=2, recovering=True)
    assert story.state.recovering


def test_an_isr_that_a_leader_knows_before_it_is_durable():
    story = Story()
    story.ledger.elections.committed({(ID, 0): 4})
    story.look(1, partition_epoch=4)
    broken("rule 7", story, lambda: story.look(1, partition_epoch=5))
