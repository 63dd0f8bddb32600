"""Kills in a row, without processes."""

from __future__ import annotations

from typing import cast

from kcluster.chaos import kills
from kcluster.chaos.kills import KillPlan
from kcluster.client.failover import Failover
from kcluster.client.timeline import Timeline
from kcluster.core import traces as t
from kcluster.wire import control as c
from tests.client.test_timeline import begun, image
from tests.client.told import Told


class FakeFailover:
    """Each broker is fenced some ms after its signal; `stuck` ones never are."""

    def __init__(self, fenced_after_ms: list[int], stuck: int = -1) -> None:
        self.commands: list[c.Kill] = []
        self.idled = 0
        self._after_ms = iter(fenced_after_ms)
        self._stuck = stuck

    def kill(self, command: c.Kill, until: str, timeout_ms: int) -> Timeline:
        self.commands.append(command)
        told = Told()
        timeline = begun(command.ids, image(leaders=(3,)), told)
        if command.ids != [self._stuck]:
            told.coordinator(1_000 + next(self._after_ms), t.BrokerFenced(command.ids[0], "died"))
        timeline.heard(told.events)
        return timeline

    def idle(self, until_s: float) -> None:
        self.idled += 1


def run(
    fake: FakeFailover, plan: KillPlan, ids: list[int], stops_after: int = 99
) -> list[Timeline]:
    victims = iter(ids)
    done: list[Timeline] = []
    for timeline in kills.run(
        plan, cast(Failover, fake), lambda: [next(victims)], lambda: len(done) >= stops_after
    ):
        done.append(timeline)
    return done


def test_each_is_followed_before_the_next_and_summed_up() -> None:
    fake = FakeFailover([5, 9, 6])
    done = run(fake, KillPlan(times=3, until="detected", restart_after_ms=100), [1, 2, 1])
    assert [command.ids for command in fake.commands] == [[1], [2], [1]]
    assert {command.restart_after_ms for command in fake.commands} == {100}
    assert fake.idled == 2
    spread = kills.spreads(done)
    assert set(spread) == {"detected", "elected"}
    assert (spread["detected"].kills, spread["detected"].p50_ms, spread["detected"].worst_ms) == (
        3, 6, 9,
    )  # fmt: skip


def test_one_that_does_not_come_to_its_stage_is_the_last() -> None:
    done = run(FakeFailover([5], stuck=2), KillPlan(times=3, until="detected"), [1, 2, 1])
    assert [kills.is_finished(timeline, "detected") for timeline in done] == [True, False]
    assert kills.spreads(done)["detected"].kills == 1


def test_who_has_had_enough_gets_no_more() -> None:
    plan = KillPlan(times=5, until="detected")
    assert len(run(FakeFailover([5, 5, 5]), plan, [1, 2, 1], stops_after=2)) == 2
