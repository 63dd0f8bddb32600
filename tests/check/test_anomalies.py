"""Each anomaly is found in a history made for it, and none in a good one."""

import pytest

from kcluster.check.anomalies import find
from kcluster.check.history import FAIL, INFO, OK, History
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)


def good():
    history = History()
    for index, value in enumerate([b"a", b"b", b"c"]):
        sent = history.send("p", TP, value, -1, is_idempotent=True)
        sent.outcome, sent.offset = OK, index
    log = [(0, b"a"), (1, b"b"), (2, b"c")]
    history.logs[TP] = {1: list(log), 2: list(log)}
    history.poll("c", TP, log)
    return history


def test_a_good_history_has_no_anomalies():
    assert not find(good())


def test_an_unknown_outcome_may_be_there_or_not():
    history = good()
    history.send("p", TP, b"d", -1, is_idempotent=True).outcome = INFO
    assert not find(history)
    for log in history.logs[TP].values():
        log.append((3, b"d"))
    assert not find(history)


def lose(history):
    del history.logs[TP][2][2]


def repeat(history):
    for log in history.logs[TP].values():
        log.append((3, b"b"))


def refuse(history):
    history.sends[1].outcome = FAIL


def swap(history):
    for log in history.logs[TP].values():
        log[0], log[1] = (0, b"b"), (1, b"a")


def strange(history):
    for log in history.logs[TP].values():
        log.append((3, b"z"))


def go_back(history):
    history.poll("c", TP, [(1, b"b")])


def skip(history):
    history.polls.clear()
    history.poll("c", TP, [(0, b"a"), (2, b"c")])


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lose, "lost-write"),
        (lose, "diverged-logs"),
        (repeat, "duplicate"),
        (refuse, "phantom-write"),
        (swap, "reordering"),
        (swap, "inconsistent-offsets"),
        (strange, "foreign-write"),
        (go_back, "nonmonotonic-poll"),
        (skip, "poll-skip"),
    ],
)
def test_an_anomaly_is_found_by_its_name(damage, name):
    history = good()
    damage(history)
    assert name in find(history).counts


def test_a_group_may_skip_what_a_deletion_was_to_take():
    history, place = good(), ("g", TP)
    history.groups.give(place, 2)
    commit = history.groups.committing(place, "m", 1, 3)
    commit.acknowledged = history.groups.moment()
    assert set(find(history).counts) == {"skipped-record"}
    history.deleted[TP] = 2
    assert not find(history)
