"""The driver and its timers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kcluster.core.turn import Disconnected, StoodStill, Timer, Turn
from kcluster.world import loop as loop_module
from kcluster.world.loop import EXIT_BUG, Driver, Timers, monotonic_ms


class Named(Timer):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Core:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.turns = 0

    def handle(self, event: Any, turn: Turn) -> None:
        self.events.append(event)
        if isinstance(event, Exception):
            raise event

    def settle(self, turn: Turn) -> None:
        self.turns += 1

    def disk_failed(self, turn: Turn, operation: Any, errno: int) -> None:
        raise AssertionError


class Nowhere:
    """A world where nothing happens."""

    def __init__(self) -> None:
        self.post: Callable[[Any], None] | None = None
        self.traces: list[Any] = []

    def start(self, post: Callable[[Any], None]) -> None:
        self.post = post

    def clock(self) -> tuple[int, int]:
        return monotonic_ms(), 0

    def trace(self, traces: list[Any]) -> None:
        self.traces.extend(traces)

    def release(self) -> None:
        return


@pytest.fixture
def core() -> Core:
    return Core()


def a_driver(core: Core, loop: asyncio.AbstractEventLoop, **knobs: Any) -> Driver:
    return Driver(core, Nowhere(), loop, **knobs)  # type: ignore[arg-type]


def rounds(loop: asyncio.AbstractEventLoop, count: int) -> None:
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_all_events_of_one_round_are_one_turn(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    driver = a_driver(core, loop)
    driver.start()
    for n in range(32):
        loop.call_soon(driver.post, Disconnected(n))
    rounds(loop, 3)
    assert [event.connection for event in core.events] == list(range(32))
    assert core.turns == 1


def test_more_events_than_a_turn_takes_are_several_turns_in_order(
    core: Core, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(loop_module.LIMITS)(events_per_turn=10)
    monkeypatch.setattr(loop_module, "LIMITS", limits)
    driver = a_driver(core, loop)
    driver.start()
    for n in range(32):
        driver.post(Disconnected(n))
    rounds(loop, 1)
    assert [event.connection for event in core.events] == list(range(32))
    assert core.turns == 4


def test_the_first_turn_is_the_cores_own(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    driver = a_driver(core, loop)
    begun: list[int] = []

    def begin(turn: Turn) -> None:
        begun.append(turn.now_ms)
        turn.trace("begun")

    driver.start(begin)
    assert begun and begun[0] > 0
    assert core.events == [] and core.turns == 1


def test_a_gap_is_told_before_the_requests_that_waited(
    core: Core, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = a_driver(core, loop, stood_still_ms=3000)
    driver.start()
    driver.post(Disconnected(1))
    rounds(loop, 2)
    late = loop.time() + 10
    monkeypatch.setattr(loop, "time", lambda: late)
    driver.post(Disconnected(2))
    rounds(loop, 3)
    assert [type(event) for event in core.events] == [Disconnected, StoodStill, Disconnected]
    assert 9_000 < core.events[1].gap_ms <= 11_000


def test_an_idle_loop_that_stood_still_tells_it_too(
    core: Core, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = a_driver(core, loop, stood_still_ms=40)
    driver.start()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 5)
    rounds(loop, 5)
    assert [type(event) for event in core.events] == [StoodStill]


def test_a_loop_that_ticks_never_stood_still(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    driver = a_driver(core, loop, stood_still_ms=2000)
    driver.start()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    driver.post(Disconnected(1))
    rounds(loop, 2)
    assert [type(event) for event in core.events] == [Disconnected]


def test_a_bug_in_a_core_or_a_callback_reaches_the_one_catch_all(
    core: Core, loop: asyncio.AbstractEventLoop
) -> None:
    bugs: list[BaseException] = []
    driver = a_driver(core, loop, on_bug=bugs.append)
    driver.start()
    driver.post(AssertionError("in the core"))  # type: ignore[arg-type]

    def bad() -> None:
        raise KeyError("in a callback")

    loop.call_soon(bad)
    rounds(loop, 3)
    assert sorted(type(bug).__name__ for bug in bugs) == ["AssertionError", "KeyError"]


def test_what_follows_a_turn_sees_it_done(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    seen: list[int] = []
    driver = a_driver(core, loop, after_turn=lambda: seen.append(core.turns))
    driver.start()
    driver.post(Disconnected(1))
    rounds(loop, 2)
    assert seen == [1]


def test_a_stopped_driver_takes_no_more_turns(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    driver = a_driver(core, loop, stood_still_ms=10)
    driver.start()
    driver.stop()
    driver.post(Disconnected(1))
    rounds(loop, 3)
    assert core.events == []


def test_timers_come_in_the_order_of_their_deadlines(loop: asyncio.AbstractEventLoop) -> None:
    came: list[str] = []
    timers = Timers(loop)
    timers.post = lambda event: came.append(event.name)  # type: ignore[union-attr]
    now = monotonic_ms()
    timers.schedule([(now + 20, Named("c")), (now + 20, Named("d")), (now + 5, Named("b"))])
    timers.schedule([(now - 5, Named("a"))])
    loop.call_at((now + 40) / 1000, loop.stop)
    loop.run_forever()
    assert came == ["a", "b", "c", "d"]
    assert len(timers) == 0


def test_a_timer_never_comes_early(loop: asyncio.AbstractEventLoop) -> None:
    early: list[int] = []
    timers = Timers(loop)
    deadlines = {f"{n}": monotonic_ms() + n for n in range(1, 30)}
    left = set(deadlines)

    def post(event: Any) -> None:
        if monotonic_ms() < deadlines[event.name]:
            early.append(event.name)
        left.discard(event.name)
        if not left:
            loop.stop()

    timers.post = post
    timers.schedule([(due, Named(name)) for name, due in deadlines.items()])
    loop.call_later(20, loop.stop)
    loop.run_forever()
    assert not left and not early


BROKEN = """
import asyncio, sys
from kcluster.world.loop import Driver
from kcluster.world.world import RealWorld
from kcluster.core.turn import Timer
class Core:
    def handle(self, event, turn): raise AssertionError("a bug")
    def settle(self, turn): pass
    def disk_failed(self, turn, operation, errno): pass
loop = asyncio.new_event_loop()
driver = Driver(Core(), RealWorld(sys.argv[1], loop), loop)
driver.start()
driver.post(Timer())
loop.run_forever()
"""


def test_a_process_with_a_bug_tells_it_and_exits(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN, str(tmp_path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == EXIT_BUG
    assert "AssertionError: a bug" in ended.stderr


STOPPED = """
import asyncio, sys
from kcluster.world.loop import Driver
from kcluster.world.world import RealWorld
class Core:
    def handle(self, event, turn): print(type(event).__name__, flush=True)
    def settle(self, turn): pass
    def disk_failed(self, turn, operation, errno): pass
loop = asyncio.new_event_loop()
driver = Driver(Core(), RealWorld(sys.argv[1], loop), loop, stood_still_ms=100)
driver.start()
print("started", flush=True)
loop.run_forever()
"""


def test_a_process_that_was_stopped_notices(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            # The passing of time is what is tested here.
            process.wait(timeout=0.4)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "StoodStill\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
