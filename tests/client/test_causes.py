"""Histories of a partition, with causes, from journals written by hand."""

from __future__ import annotations

import textwrap

import pytest

from kcluster.client.causes import History, explain
from kcluster.client.lives import UNKNOWN
from kcluster.core import traces as t
from kcluster.model import TopicPartition
from tests.client.told import NOON_MS, Told, clock

ORDERS = TopicPartition("orders", 0)


def created(told: Told, at: float = 0) -> None:
    """Led by 1, with followers 2 and 3."""
    told.coordinator(at, t.TopicCreated("orders", 2, 3))
    told.by(at + 5, 1, t.BecameLeader("orders", 0, 0, 0, 0))
    told.by(at + 5, 2, t.BecameFollower("orders", 0, 0, 1))
    told.by(at + 5, 3, t.BecameFollower("orders", 0, 0, 1))


def history(told: Told, tp: TopicPartition = ORDERS) -> History:
    found = explain(told.events, tp, clock)
    assert found is not None
    return found


def tells(told: Told, golden: str) -> None:
    """All of it, but for the beginning that `created` makes."""
    lines = [f"{clock(change.at_ms)}  {change}" for change in history(told).changes[2:]]
    assert lines == textwrap.dedent(golden).strip().splitlines()


def test_a_kill_and_the_return() -> None:
    told = Told()
    created(told)
    told.by(100, 1, t.FirstCommitted("orders", 0, 0, 12))
    told.killed(31_214, 1)
    told.coordinator(
        31_220,
        t.BrokerFenced(1, "died"),
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], "died"),
        t.Elected("orders", 0, 1, 2, 1, "isr", "died"),
    )
    told.by(31_228, 2, t.BecameLeader("orders", 0, 1, 812, 810))
    told.by(31_240, 2, t.FirstCommitted("orders", 0, 1, 815))
    told.started(32_217, 1)
    told.coordinator(32_300, t.BrokerRegistered(1, 20, "crash"))
    told.coordinator(32_301, t.BrokerUnfenced(1, 20))
    told.by(32_302, 1, t.BecameFollower("orders", 0, 1, 2))
    told.by(32_303, 1, t.Truncated("orders", 0, 820, 812))
    told.coordinator(32_712, t.IsrExpanded("orders", 0, [2, 3], [1, 2, 3]))
    told.coordinator(35_000, t.Elected("orders", 0, 2, 1, 2, "preferred", "rebalance"))
    tells(
        told,
        """
        12:00:00.100  first records of epoch 0 committed, high watermark 12
        12:00:31.220  ISR {1,2,3} → {2,3}: broker 1 was fenced 3.0 ms after it died: SIGKILL by kill-broker
        12:00:31.220  leader 1 → 2, epoch 0 → 1: broker 1 was fenced 3.0 ms after it died: SIGKILL by kill-broker
        12:00:31.228  broker 2 leads epoch 1, 8.0 ms after its election; its log ends at 812, high watermark 810
        12:00:31.240  first records of epoch 1 committed 20 ms after the election, high watermark 815
        12:00:32.303  broker 1 cut its log from 820 to 812: beyond that it differed from that of leader 2
        12:00:32.712  ISR {2,3} → {1,2,3}: broker 1 caught up, 412 ms after it registered, 1,495 ms after it died
        12:00:35.000  leader 2 → 1, epoch 1 → 2, the preferred one: broker 1 is its preferred leader, back in the ISR for 2,288 ms
        """,  # noqa: E501
    )
    last = history(told).changes[-1]
    assert (last.leader, last.leader_epoch, last.isr, last.high_watermark) == (1, 2, [1, 2, 3], 815)


def test_a_history_begins_with_its_topic() -> None:
    told = Told()
    created(told)
    assert history(told).is_whole
    assert [str(change) for change in history(told).changes] == [
        "created: 2 partitions, 3 replicas",
        "broker 1 leads epoch 0; its log ends at 0, high watermark 0",
    ]


def test_a_paused_broker_is_fenced_for_its_silence() -> None:
    told = Told()
    created(told)
    told.paused(1_000, 2)
    told.coordinator(
        4_010,
        t.BrokerFenced(2, "session expired", 3_001),
        t.IsrShrunk("orders", 0, [1, 2, 3], [1, 3], "session expired"),
    )
    told.resumed(6_000, 2)
    told.coordinator(6_010, t.BrokerUnfenced(2, 7))
    told.coordinator(6_016, t.IsrExpanded("orders", 0, [1, 3], [1, 2, 3]))
    tells(
        told,
        """
        12:00:04.010  ISR {1,2,3} → {1,3}: broker 2 was fenced: not heard of for 3,001 ms: paused by pause-broker since 12:00:01.000
        12:00:06.016  ISR {1,3} → {1,2,3}: broker 2 caught up, 6.0 ms after it was unfenced
        """,  # noqa: E501
    )


def test_a_follower_that_lags_behind() -> None:
    told = Told()
    created(told)
    told.paused(1_000, 3)
    told.resumed(8_000, 3)
    told.by(12_000, 1, t.FellBehind("orders", 0, 3, 0, 8120, 9003, 11_000))
    told.coordinator(12_003, t.IsrShrunk("orders", 0, [1, 2, 3], [1, 2], "lag"))
    told.coordinator(14_003, t.IsrExpanded("orders", 0, [1, 2], [1, 2, 3]))
    told.by(30_000, 1, t.FellBehind("orders", 0, 3, 0, 9500, 9900, 11_000))
    told.coordinator(30_003, t.IsrShrunk("orders", 0, [1, 2, 3], [1, 2], "lag"))
    tells(
        told,
        """
        12:00:12.003  ISR {1,2,3} → {1,2}: broker 3 did not catch up: it held 8120 of 9003 and had not caught up for 11,000 ms: paused by pause-broker from 12:00:01.000 to 12:00:08.000
        12:00:14.003  ISR {1,2} → {1,2,3}: broker 3 caught up, 2,000 ms after it had left the ISR
        12:00:30.003  ISR {1,2,3} → {1,2}: broker 3 did not catch up: it held 9500 of 9900 and had not caught up for 11,000 ms
        """,  # noqa: E501
    )


def test_a_clean_stop() -> None:
    told = Told()
    created(told)
    told.asked(1_000, 1)
    told.coordinator(
        1_002,
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], "shutting down"),
        t.Elected("orders", 0, 1, 2, 1, "isr", "shutting down"),
    )
    told.died(1_050, 1, "exit 0 by command")
    told.coordinator(1_055, t.BrokerFenced(1, "died"))
    told.started(2_000, 1)
    told.coordinator(2_100, t.BrokerRegistered(1, 30, "clean"))
    told.coordinator(2_104, t.IsrExpanded("orders", 0, [2, 3], [1, 2, 3]))
    told.signalled(5_000, 2, "SIGTERM")
    told.coordinator(5_001, t.Elected("orders", 0, 2, 3, 2, "isr", "shutting down"))
    tells(
        told,
        """
        12:00:01.002  ISR {1,2,3} → {2,3}: broker 1 was shutting down: asked to by stop-broker or restart, 2.0 ms before
        12:00:01.002  leader 1 → 2, epoch 0 → 1: broker 1 was shutting down: asked to by stop-broker or restart, 2.0 ms before
        12:00:02.104  ISR {2,3} → {1,2,3}: broker 1 caught up, 4.0 ms after it registered, 1,054 ms after it ended
        12:00:05.001  leader 2 → 3, epoch 1 → 2: broker 2 was shutting down: SIGTERM by kill-broker, 1.0 ms before
        """,  # noqa: E501
    )


def test_the_coordinator_was_dead_too() -> None:
    told = Told()
    created(told)
    told.killed(1_000, 0)
    told.killed(1_000, 1)
    told.started(2_000, 0)
    told.ready(2_040, 0)
    told.coordinator(
        2_043,
        t.BrokerFenced(1, "died"),
        t.Elected("orders", 0, 1, -1, 1, "none", "died"),
    )
    told.coordinator(
        5_040,
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], "did not come back"),
        t.Elected("orders", 0, -1, 2, 2, "isr", "did not come back"),
    )
    tells(
        told,
        """
        12:00:02.043  leader 1 → none, epoch 0 → 1: broker 1 was fenced 1,040 ms after it died, since the coordinator ran only from 12:00:02.040 on: SIGKILL by kill-broker
        12:00:05.040  ISR {1,2,3} → {2,3}: the coordinator had begun anew at 12:00:02.040, and broker 1 had not come back: SIGKILL by kill-broker
        12:00:05.040  leader none → 2, epoch 1 → 2: the coordinator had begun anew at 12:00:02.040, and its brokers had come back or been given up
        """,  # noqa: E501
    )


def test_the_last_replica_dies_and_comes_back() -> None:
    told = Told()
    created(told)
    told.died(1_000, 1, "exit 70", "the disk is gone")
    told.coordinator(
        1_001,
        t.BrokerFenced(1, "died"),
        t.IsrShrunk("orders", 0, [1], [], "died"),
        t.Elected("orders", 0, 1, -1, 1, "none", "died"),
    )
    told.started(2_000, 1)
    told.coordinator(2_100, t.BrokerRegistered(1, 30, "crash"))
    told.coordinator(
        2_101,
        t.BrokerUnfenced(1, 30),
        t.IsrExpanded("orders", 0, [], [1]),
        t.Elected("orders", 0, -1, 1, 2, "elr", "somebody can lead again"),
    )
    tells(
        told,
        """
        12:00:01.001  ISR {1} → {}: broker 1 was fenced 1.0 ms after it died: exit 70, the disk is gone
        12:00:01.001  leader 1 → none, epoch 0 → 1: broker 1 was fenced 1.0 ms after it died: exit 70, the disk is gone
        12:00:02.101  ISR {} → {1}: broker 1 was elected, from the ELR
        12:00:02.101  leader none → 1, epoch 1 → 2, from the ELR: nobody led it, and broker 1 came back: unfenced 1.0 ms after it registered
        """,  # noqa: E501
    )


def test_logs_that_failed_or_lost_records() -> None:
    told = Told()
    created(told)
    told.by(900, 1, t.LogOffline("orders", 0, "No space left on device"))
    told.coordinator(
        1_000,
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], "log dir failed"),
        t.Elected("orders", 0, 1, 2, 1, "isr", "log dir failed"),
    )
    told.coordinator(
        2_000, t.BrokerRegistered(3, 30, "lossy"), t.IsrShrunk("orders", 0, [2, 3], [2], "lossy")
    )
    tells(
        told,
        """
        12:00:00.900  the log of broker 1 went offline: No space left on device
        12:00:01.000  ISR {1,2,3} → {2,3}: the log of broker 1 failed: No space left on device
        12:00:01.000  leader 1 → 2, epoch 0 → 1: the log of broker 1 failed: No space left on device
        12:00:02.000  ISR {2,3} → {2}: broker 3 came back after a crash that may have cost it records
        """,  # noqa: E501
    )


def test_two_at_once_have_a_cause_each() -> None:
    told = Told()
    created(told)
    told.killed(1_000, 2)
    told.died(1_003, 3, "SIGSEGV")
    told.coordinator(
        1_004,
        t.BrokerFenced(2, "died"),
        t.BrokerFenced(3, "died"),
        t.IsrShrunk("orders", 0, [1, 2, 3], [1], "died"),
    )
    tells(
        told,
        """
        12:00:01.004  ISR {1,2,3} → {1}: broker 2 was fenced 1.0 ms after it died: SIGKILL by kill-broker; broker 3 was fenced 1.0 ms after it died: SIGSEGV
        """,  # noqa: E501
    )


def test_what_was_heard_late_is_told_where_it_belongs() -> None:
    told = Told()
    created(told)
    told.coordinator(
        1_010, t.BrokerFenced(1, "died"), t.IsrShrunk("orders", 0, [1, 2], [2], "died")
    )
    told.killed(1_000, 1)
    assert str(history(told).changes[-1]).endswith("7.0 ms after it died: SIGKILL by kill-broker")


# --- what the journal does not say ----------------------------------------------------------


def test_a_journal_that_begins_later_says_so() -> None:
    told = Told(first_seq=4211)
    told.coordinator(500, t.Elected("orders", 0, 1, 2, 7, "isr", "died"))
    found = history(told)
    assert not found.is_whole
    assert found.journal_begins_ms == NOON_MS + 500
    assert str(found.changes[0]) == f"leader 1 → 2, epoch 6 → 7: {UNKNOWN}"


def test_what_is_missing_is_no_reason_to_guess() -> None:
    told = Told()
    created(told)
    told.missing(12)
    told.coordinator(9_000, t.Elected("orders", 0, 3, 1, 4, "isr", "died"))
    told.coordinator(9_500, t.IsrExpanded("orders", 0, [1, 2], [1, 2, 3]))
    told.coordinator(9_600, t.IsrShrunk("orders", 0, [2, 3], [2], "moonlight"))
    told.by(9_700, 2, t.BecameLeader("orders", 0, 6, 40, 40))
    tells(
        told,
        f"""
        12:00:00.005  12 events are missing in the journal
        12:00:09.000  leader 1 → 3, epoch 0 → 3: {UNKNOWN}
        12:00:09.000  leader 3 → 1, epoch 3 → 4: {UNKNOWN}
        12:00:09.500  ISR {{1,2}} → {{1,2,3}}: broker 3 caught up
        12:00:09.600  ISR {{1,2,3}} → {{2,3}}: {UNKNOWN}
        12:00:09.600  ISR {{2,3}} → {{2}}: {UNKNOWN}
        12:00:09.700  leader 1 → 2, epoch 4 → 6: {UNKNOWN}
        12:00:09.700  broker 2 leads epoch 6; its log ends at 40, high watermark 40
        """,
    )


def test_silence_without_a_pause_has_no_known_cause() -> None:
    told = Told()
    created(told)
    told.paused(100, 2)
    told.resumed(200, 2)
    told.coordinator(
        9_000,
        t.BrokerFenced(2, "session expired", 3_000),
        t.IsrShrunk("orders", 0, [1, 2, 3], [1, 3], "session expired"),
    )
    tells(
        told,
        f"""
        12:00:09.000  ISR {{1,2,3}} → {{1,3}}: broker 2 was fenced: not heard of for 3,000 ms: {UNKNOWN}
        """,  # noqa: E501
    )


@pytest.mark.parametrize("tp", [TopicPartition("orders", 2), TopicPartition("clicks", 0)])
def test_nothing_is_told_of_a_partition_that_was_never_there(tp: TopicPartition) -> None:
    told = Told()
    created(told)
    assert explain(told.events, tp, clock) is None
    assert explain([], tp, clock) is None


def test_a_namesake_has_a_history_of_its_own() -> None:
    told = Told()
    created(told)
    told.coordinator(500, t.Elected("orders", 0, 1, 2, 1, "isr", "asked for"))
    told.coordinator(1_000, t.TopicDeleted("orders"))
    created(told, 2_000)
    tells(
        told,
        """
        12:00:00.500  leader 1 → 2, epoch 0 → 1: asked for by elect-leaders
        12:00:01.000  deleted
        12:00:02.000  created: 2 partitions, 3 replicas
        12:00:02.005  broker 1 leads epoch 0; its log ends at 0, high watermark 0
        """,
    )


def test_after_a_boot_the_clock_of_the_wall_counts() -> None:
    told = Told()
    created(told)
    told.killed(300_000, 2)
    after_boot = Told(first_seq=told.chronicle.next_seq)
    after_boot.coordinator(
        0, t.BrokerFenced(2, "died"), t.IsrShrunk("orders", 0, [1, 2, 3], [1, 3], "died")
    )
    an_hour_ms = 3_600_000
    later = [
        # As if the machine had been booted: its own clock is young, the wall's went on.
        event.__class__(
            **{name: getattr(event, name) for name in event.__struct_fields__}
            | {"at_ms": event.at_ms + an_hour_ms, "monotonic_ns": event.monotonic_ns // 1000}
        )
        for event in after_boot.events
    ]
    found = explain([*told.events, *later], ORDERS, clock)
    assert found is not None
    assert "broker 2 was fenced 55 min after it died" in str(found.changes[-1])


def test_replicas_move_and_the_leader_with_them() -> None:
    told = Told()
    created(told)
    told.coordinator(1_000, t.ReassignmentStarted("orders", 0, [1, 2, 3], [4, 2, 3], [4], [1]))
    told.coordinator(
        1_250,
        t.ReassignmentCompleted("orders", 0, [4, 2, 3], [1], 4, 1),
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3, 4], "reassigned"),
        t.Elected("orders", 0, 1, 4, 1, "isr", "reassigned"),
    )
    tells(
        told,
        """
        12:00:01.000  replicas 1,2,3 → 4,2,3 asked for: by a reassignment
        12:00:01.250  reassignment complete: replicas 4,2,3
        12:00:01.250  ISR {1,2,3} → {2,3,4}: broker 1 is no replica of it any more: it was reassigned to 4,2,3; broker 4 caught up, 250 ms after a reassignment had added it
        12:00:01.250  leader 1 → 4, epoch 0 → 1: broker 1 is no replica of it any more: it was reassigned to 4,2,3
        """,  # noqa: E501
    )


def test_a_leader_that_stays_goes_on_in_a_new_epoch_when_a_replica_goes() -> None:
    told = Told()
    created(told)
    told.coordinator(1_000, t.ReassignmentStarted("orders", 0, [1, 2, 3], [1, 2, 4], [4], [3]))
    told.coordinator(2_000, t.ReassignmentCancelled("orders", 0, [1, 2, 3], [4], 1, 1))
    told.by(2_005, 1, t.BecameLeader("orders", 0, 1, 7, 7))
    told.coordinator(3_000, t.ReassignmentStarted("orders", 0, [1, 2, 3], [1, 2], [], [3]))
    told.coordinator(
        3_000,
        t.ReassignmentCompleted("orders", 0, [1, 2], [3], 1, 2),
        t.IsrShrunk("orders", 0, [1, 2, 3], [1, 2], "reassigned"),
    )
    told.killed(4_000, 1)
    told.coordinator(
        4_010,
        t.BrokerFenced(1, "died"),
        t.IsrShrunk("orders", 0, [1, 2], [2], "died"),
        t.Elected("orders", 0, 1, 2, 3, "isr", "died"),
    )
    tells(
        told,
        """
        12:00:01.000  replicas 1,2,3 → 1,2,4 asked for: by a reassignment
        12:00:02.000  reassignment cancelled: replicas 1,2,3
        12:00:02.005  broker 1 leads epoch 1; its log ends at 7, high watermark 7
        12:00:03.000  replicas 1,2,3 → 1,2 asked for: by a reassignment
        12:00:03.000  reassignment complete: replicas 1,2
        12:00:03.000  ISR {1,2,3} → {1,2}: broker 3 is no replica of it any more: it was reassigned to 1,2
        12:00:04.010  ISR {1,2} → {2}: broker 1 was fenced 7.0 ms after it died: SIGKILL by kill-broker
        12:00:04.010  leader 1 → 2, epoch 2 → 3: broker 1 was fenced 7.0 ms after it died: SIGKILL by kill-broker
        """,  # noqa: E501
    )
