"""The screen of a real cluster: keys that break it, and what is seen of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from kcluster.client.snapshot import ReplicaStatus
from kcluster.tui.app import Top
from kcluster.tui.start import make_top
from tests.live.conftest import LiveCluster
from tests.live.test_commands import ok
from tests.tui.picturing import text_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

SEEN_S = 30
STEP_S = 0.02

Story = Callable[["Screen"], Awaitable[None]]


class Screen:
    """The application as a person has it, and who waits for what it shows."""

    def __init__(self, app: Top, pilot: Pilot[str]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return text_of(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, is_true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SEEN_S
        while not is_true():
            assert time.monotonic() < deadline, f"not seen in time: {what}\n{self.text}"
            await self.pilot.pause(STEP_S)

    async def until_seen(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words), ", ".join(words))

    def replica(self, topic: str, broker: int) -> ReplicaStatus:
        assert self.app.view.snapshot is not None
        return next(
            replica
            for partition in self.app.view.snapshot.partitions
            if partition.topic == topic
            for replica in partition.replicas
            if replica.broker == broker
        )

    def row(self, topic: str) -> str:
        """Its line in the matrix; empty while it has none."""
        lines = [line for line in self.text.splitlines() if f"{topic}-0" in line]
        return next((line for line in lines if line.startswith("│")), "")


def play(story: Story, *, size: tuple[int, int] = (140, 40), is_read_only: bool = False) -> None:
    async def run() -> None:
        app = make_top("live", is_read_only=is_read_only)
        async with app.run_test(size=size) as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: app.view.snapshot is not None, "the cluster")
            await story(screen)

    asyncio.run(run())


@pytest.fixture
def seen(cluster: LiveCluster) -> str:
    """A topic with a name that a row has room for."""
    return cluster.topic(f"seen{time.time_ns() % 10**6}")


def write(topic: str, records: int) -> None:
    import subprocess
    import sys

    lines = "".join(f"{number}\n" for number in range(records))
    command = [sys.executable, "-m", "kcluster.cli.main", "produce", topic, "-c", "live"]
    subprocess.run(command, input=lines, text=True, check=True, capture_output=True, timeout=60)


def test_a_kill_from_the_screen_is_seen_in_leader_isr_and_lag(
    cluster: LiveCluster, seen: str
) -> None:
    victim = cluster.leader(seen)
    write(seen, 10)

    async def story(screen: Screen) -> None:
        await screen.press("slash", *seen, "enter")
        await screen.until(lambda: "10" in screen.row(seen), "the records")
        assert screen.replica(seen, victim).role == "leader"
        await screen.press(str(victim), "k")
        assert f"kill broker {victim}" in screen.text
        await screen.press("9")
        await screen.until_seen(f"kcluster kill-broker {victim} -c live")
        await screen.until_seen("KILLED", "DEGRADED")
        await screen.until(
            lambda: screen.replica(seen, victim).role == "down" and " x " in screen.row(seen),
            "the broker down, in the matrix",
        )
        await screen.until(
            lambda: screen.app.view.partition().leader not in (victim, -1),  # type: ignore[union-attr]
            "another leader",
        )
        partition = screen.app.view.partition()
        assert partition is not None
        assert victim not in partition.isr
        await screen.until_seen("ISR", "ELECTION")
        await asyncio.to_thread(write, seen, 25)
        await screen.until(lambda: screen.replica(seen, victim).lag == 25, "its lag")
        await screen.until(lambda: " 25 " in screen.row(seen), "its lag in the matrix")
        await screen.press("r")
        await screen.until_seen(f"kcluster start-broker {victim} -c live")
        await screen.until(
            lambda: (
                screen.replica(seen, victim).role == "in-sync"
                and not screen.replica(seen, victim).lag
            ),
            "back in sync",
        )
        await screen.until_seen("HEALTHY")

    play(story)


def test_a_paused_broker_goes_on_when_p_is_pressed_again(cluster: LiveCluster) -> None:
    async def story(screen: Screen) -> None:
        await screen.press("3", "p")
        await screen.until_seen("kcluster pause-broker 3 -c live")
        await screen.until_seen("PAUSED")
        await screen.press("p")
        await screen.until_seen("kcluster resume-broker 3 -c live")
        await screen.until_seen("HEALTHY")

    play(story)


def test_the_coordinator_dies_and_comes_back_and_the_screen_lives(cluster: LiveCluster) -> None:
    async def story(screen: Screen) -> None:
        await screen.press("0", "k", "9")
        await screen.until_seen("kcluster kill-broker --coordinator -c live")
        await screen.until_seen("KILLED")
        await screen.press("r")
        await screen.until_seen("kcluster start-broker --coordinator -c live")
        await screen.until_seen("HEALTHY")

    play(story)


def test_the_menu_of_faults_carries_them_out(cluster: LiveCluster) -> None:
    async def story(screen: Screen) -> None:
        await screen.press("2", "c")
        assert "pause broker 2 for 5 s" in screen.text
        await screen.press("e")
        await screen.until_seen("kcluster elect-leaders")
        await screen.until_seen("preferred leaders, where these live")

    play(story)


def test_what_cannot_be_is_said_and_the_screen_goes_on(cluster: LiveCluster) -> None:
    async def story(screen: Screen) -> None:
        snapshot = screen.app.view.snapshot
        assert snapshot is not None
        screen.app.view.selected = 9
        await screen.press("s")
        await screen.until_seen("failed:")
        await screen.until_seen("HEALTHY")

    play(story)


def test_pages_show_segments_logs_and_groups(cluster: LiveCluster, seen: str) -> None:
    write(seen, 10)
    ok("consume", seen, "-c", "live", "-g", f"group-{seen}", "--from", "start", "-n", "10")
    write(seen, 50)

    async def story(screen: Screen) -> None:
        await screen.press("slash", *seen, "enter")
        await screen.until(lambda: screen.row(seen) != "", "the topic")
        await screen.press("enter")
        await screen.until_seen(f"segments of {seen}-0", "BASE OFFSET", "active")
        await screen.press("l")
        await screen.until_seen("log of broker-1", "BecameFollower")
        await screen.press("G")
        await screen.until_seen(f"group-{seen}", "lag 50")
        await screen.press("G")
        await screen.until_seen("partitions 1 of")

    play(story)


def test_a_load_runs_from_the_screen_and_is_judged(cluster: LiveCluster) -> None:
    async def story(screen: Screen) -> None:
        await screen.press("g")
        await screen.until_seen("kcluster load --duration 0")
        await screen.until_seen("rec/s", "p99")
        await screen.until(
            lambda: (told := screen.app.view.load.figures) is not None and told.acknowledged > 0,
            "acknowledged records",
        )
        await screen.press("g")
        await screen.until_seen("lost 0", "duplicated 0")

    play(story)


def test_a_load_that_cannot_start_says_why(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kcluster.tui.feeds.LOAD", ("load", "--topic", "bad/name"))

    async def story(screen: Screen) -> None:
        await screen.press("g")
        await screen.until(lambda: screen.app.view.load.phase == "failed", "the failure")
        assert "error" in screen.text

    play(story)


def test_a_supervisor_that_ends_leaves_a_screen_that_says_so(
    own_cluster: Callable[..., LiveCluster],
) -> None:
    made = own_cluster("brief", brokers=1)

    async def run() -> None:
        app = make_top("brief")
        async with app.run_test(size=(100, 30)) as pilot:
            screen = Screen(app, pilot)
            await screen.until_seen("HEALTHY")
            await asyncio.to_thread(ok, "down", "-c", "brief")
            await screen.until_seen("NO ANSWER")
            await screen.press("q")
            assert app.return_value == "running"

    asyncio.run(run())
    assert made
