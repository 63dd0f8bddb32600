"""What a kill caused, from events written by hand."""

from __future__ import annotations

from kcluster.cli.kill import line_of
from kcluster.client.timeline import Timeline
from kcluster.core import traces as t
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.wire.bus import ProcessState
from kcluster.wire.control import Moment
from tests.client.told import Told

TOPIC = b"o" * 16
EPOCHS = {1: 11, 2: 12, 3: 13}
"""Broker epochs before the kill."""


def image(
    *, leaders: tuple[int, ...] = (1, 2, 1), isr: tuple[int, ...] = (1, 2, 3), epoch: int = 4
) -> ClusterImage:
    """Topic orders, one partition for each of `leaders`."""
    made = ClusterImage()
    for id, broker_epoch in EPOCHS.items():
        made.replay(r.BrokerRegistered(id, broker_epoch, id, "127.0.0.1", 9090 + id, f"ipc://{id}"))
        made.replay(r.BrokerUnfenced(id, broker_epoch))
    made.replay(r.TopicCreated("orders", TOPIC))
    for partition, leader in enumerate(leaders):
        made.replay(r.PartitionChanged(TOPIC, partition, [1, 2, 3], list(isr), leader, epoch, 0))
    return made


def begun(victims: list[int], before: ClusterImage | None, told: Told) -> Timeline:
    """They were signalled at 1000, and died 3 ms later."""
    timeline = Timeline(victims, before)
    for id in victims:
        told.killed(1_000, id)
    timeline.sent(
        Moment(name, id, told.incarnations.get(id, 1), int((1_000_000 + at) * 1e6))
        for id in victims
        for name, at in (("signalled", 1_000), ("died", 1_003))
    )
    return timeline


def tells(timeline: Timeline, golden: str) -> None:
    lines = [line_of(step).strip() for step in timeline.steps()]
    assert lines == [line.strip() for line in golden.strip().splitlines()]


def fencing(told: Told, at: float, id: int = 1, cause: str = "died") -> None:
    """With elections of what it led."""
    told.coordinator(
        at,
        t.BrokerFenced(id, cause),
        t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], cause),
        t.Elected("orders", 0, 1, 2, 5, "isr", cause),
        t.IsrShrunk("orders", 1, [1, 2, 3], [2, 3], cause),
        t.IsrShrunk("orders", 2, [1, 2, 3], [2, 3], cause),
    )
    told.coordinator(at + 2, t.Elected("orders", 2, 1, 3, 5, "isr", cause))


def returning(told: Told, at: float, id: int = 1) -> None:
    told.coordinator(at, t.BrokerRegistered(id, 40, "crash"))
    told.coordinator(at + 2, t.BrokerUnfenced(id, 40))
    for partition in range(3):
        told.coordinator(
            at + 10 + 5 * partition, t.IsrExpanded("orders", partition, [2, 3], [1, 2, 3])
        )


def test_a_kill_from_the_signal_to_the_return() -> None:
    told = Told()
    timeline = begun([1], image(), told)
    fencing(told, 1_005)
    told.by(1_030, 3, t.FirstCommitted("orders", 2, 5, 812))
    told.by(1_044, 2, t.FirstCommitted("orders", 0, 5, 710))
    told.by(1_045, 2, t.FirstCommitted("orders", 1, 4, 10))  # that one it never led
    returning(told, 2_100)
    reached = []
    for event in told.events:
        timeline.heard([event])
        if not reached or reached[-1] != timeline.reached():
            reached.append(timeline.reached())
    assert reached == [
        "died",
        "detected: no leader for 2 partitions, such as orders-0",
        "detected: no leader for orders-2",
        "elected: broker 1 is not back",
        "elected: not in the ISR of 3 partitions, such as orders-0",
        "elected: not in the ISR of 2 partitions, such as orders-1",
        "elected: not in the ISR of orders-2",
        "recovered",
    ]
    tells(
        timeline,
        """
              0.0 ms  broker 1         signalled
              3.0 ms  broker 1         died
              5.0 ms  broker 1         detected: fenced
              7.0 ms  broker 1         elected: leaders for the 2 partitions that it led, the first after 5.0 ms, the last orders-2
             30.0 ms  broker 1         first write after the election: orders-2
          1,100.0 ms  broker 1         registered again
          1,120.0 ms  broker 1         back in the ISR of 3 partitions, the first after 1,110.0 ms, the last orders-2
          1,120.0 ms  broker 1         recovered
        """,  # noqa: E501
    )
    assert [timeline.ms(stage) for stage in ("detected", "elected", "recovered")] == [5, 7, 1120]


def test_a_broker_that_led_nothing() -> None:
    told = Told()
    timeline = begun([3], image(leaders=(1, 2)), told)
    told.coordinator(1_006, t.BrokerFenced(3, "died"))
    timeline.heard(told.events)
    assert timeline.is_reached("elected")
    tells(
        timeline,
        """
              0.0 ms  broker 3         signalled
              3.0 ms  broker 3         died
              6.0 ms  broker 3         detected: fenced
              6.0 ms  broker 3         elected: it led nothing
        """,
    )


def test_the_coordinator_is_back_when_it_serves() -> None:
    told = Told()
    timeline = begun([0], image(), told)
    timeline.heard(told.events)
    assert timeline.is_reached("elected")
    assert not timeline.is_reached("recovered")
    told.started(2_000, 0)
    told.ready(2_040, 0)
    timeline.heard(told.events)
    tells(
        timeline,
        """
              0.0 ms  the coordinator  signalled
              3.0 ms  the coordinator  died
          1,040.0 ms  the coordinator  recovered
        """,
    )


def test_coordinator_and_broker_together() -> None:
    """A coordinator that starts has a broker keep its place in the ISRs."""
    told = Told()
    timeline = begun([0, 1], image(leaders=(1,)), told)
    told.started(2_000, 0)
    told.ready(2_040, 0)
    told.coordinator(
        2_041, t.BrokerFenced(1, "died"), t.Elected("orders", 0, 1, -1, 5, "none", "died")
    )
    told.coordinator(2_100, t.BrokerRegistered(1, 40, "crash"))
    told.coordinator(2_102, t.BrokerUnfenced(1, 40))
    timeline.heard(told.events)
    assert timeline.reached() == "detected: no leader for orders-0"
    told.coordinator(2_103, t.Elected("orders", 0, -1, 1, 6, "isr", "did not come back"))
    timeline.heard(told.events)
    assert timeline.is_reached("recovered")
    assert timeline.ms("recovered") == 1103


def test_a_clean_end_moves_leaders_before_it_dies() -> None:
    told = Told()
    timeline = Timeline([1], image())
    told.signalled(1_000, 1, "SIGTERM")
    for partition in (0, 2):
        told.coordinator(
            1_002,
            t.IsrShrunk("orders", partition, [1, 2, 3], [2, 3], "shutting down"),
            t.Elected("orders", partition, 1, 2, 5, "isr", "shutting down"),
        )
    told.died(1_050, 1, "exit 0 by command")
    told.coordinator(1_055, t.BrokerFenced(1, "died"))
    timeline.sent([Moment("signalled", 1, 1, told.events[0].monotonic_ns)])
    timeline.heard(told.events)
    assert [(step.event, step.ms) for step in timeline.steps()] == [
        ("signalled", 0), ("elected", 2), ("died", 50), ("detected", 55),
    ]  # fmt: skip


def test_what_changed_between_the_picture_and_the_kill_counts() -> None:
    told = Told()
    told.coordinator(990, t.Elected("orders", 0, 1, 2, 5, "preferred", "rebalance"))
    told.coordinator(991, t.Elected("orders", 1, 2, 1, 5, "preferred", "rebalance"))
    told.coordinator(992, t.IsrShrunk("orders", 0, [1, 2, 3], [2, 3], "lag"))
    timeline = begun([1], image(leaders=(1, 2)), told)
    told.coordinator(
        1_006, t.BrokerFenced(1, "died"), t.Elected("orders", 1, 1, 2, 6, "isr", "died")
    )
    timeline.heard(told.events)
    [victim] = timeline.victims.values()
    assert [str(tp) for tp in victim.led] == ["orders-1"]
    assert [str(tp) for tp in victim.out] == ["orders-0"]
    assert timeline.ms("elected") == 6


def test_a_topic_that_is_deleted_is_not_waited_for() -> None:
    told = Told()
    timeline = begun([1], image(), told)
    told.coordinator(1_006, t.BrokerFenced(1, "died"), t.TopicDeleted("orders"))
    timeline.heard(told.events)
    assert timeline.is_reached("elected")


def test_one_that_was_fenced_before_is_noticed_when_it_dies() -> None:
    before = image(leaders=(2,), isr=(2, 3))
    before.replay(r.BrokerFenced(1, EPOCHS[1]))
    timeline = begun([1], before, Told())
    assert timeline.ms("elected") == 3
    assert not timeline.is_reached("recovered")


def test_missed_events_are_found_in_the_image() -> None:
    told = Told()
    timeline = begun([1], image(), told)
    fencing(told, 1_005)
    timeline.heard(told.events[:3])
    now = image(leaders=(2, 2, 3), epoch=5)
    now.replay(r.BrokerRegistered(1, 40, 9, "127.0.0.1", 9091, "ipc://1"))
    now.replay(r.BrokerUnfenced(1, 40))
    states = [ProcessState(1, 9, "ipc://1", 77, "running")]
    timeline.seen(now, states, int((1_000_000 + 1_500) * 1e6))
    assert timeline.is_reached("recovered")
    late = {step.event for step in timeline.steps() if step.is_late}
    assert late == {"elected", "registered", "recovered"}
    assert timeline.ms("recovered") == 500
    assert "(not told: found so when looking)" in line_of(timeline.steps()[-1])


def test_what_is_seen_before_anything_happened_changes_nothing() -> None:
    timeline = begun([1], image(), Told())
    timeline.seen(image(), [ProcessState(1, 1, "", 0, "killed")], 2_000_000_000_000)
    assert timeline.reached() == "died"
    timeline.seen(None, [], 2_000_000_000_000)
    assert timeline.reached() == "died"


def test_two_brokers_at_once_have_a_story_each() -> None:
    told = Told()
    timeline = begun([1, 2], image(), told)
    told.coordinator(1_005, t.BrokerFenced(1, "died"), t.BrokerFenced(2, "died"))
    for partition in range(3):
        told.coordinator(1_006, t.Elected("orders", partition, 1, 3, 5, "isr", "died"))
    timeline.heard(told.events)
    elected = {step.id: step.partitions for step in timeline.steps() if step.event == "elected"}
    assert elected == {1: 2, 2: 1}
