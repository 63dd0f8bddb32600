"""The real program in a real terminal: tmux types, and reads what stands there."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kcluster.processes.workdir import holder, locate
from tests.live.conftest import LiveCluster
from tests.live.test_commands import kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

SEEN_S = 40
STEP_S = 0.05

COMMAND = [sys.executable, "-m", "kcluster.cli.main"]


class Terminal:
    """One tmux session."""

    def __init__(self, name: str, size: tuple[int, int], *words: str, **environment: str) -> None:
        self._server = f"kcluster-{os.getpid()}-{name}"
        line = " ".join([*COMMAND, *words, "; echo left with $?; exec cat"])
        told = {**os.environ, "TMUX": "", **environment}
        subprocess.run(
            ["tmux", "-L", self._server, "-f", "/dev/null", "new-session", "-d",
             "-x", str(size[0]), "-y", str(size[1]), line],
            check=True, env=told,
        )  # fmt: skip

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._server, *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    @property
    def text(self) -> str:
        return self.run("capture-pane", "-p")

    def until_seen(self, *words: str) -> str:
        deadline = time.monotonic() + SEEN_S
        while not all(word in (text := self.text) for word in words):
            assert time.monotonic() < deadline, f"not seen in time: {words}\n{text}"
            time.sleep(STEP_S)
        return text

    @property
    def pid(self) -> int:
        """Of the program that runs in it: the child of its shell."""
        shell = int(self.run("display-message", "-p", "#{pane_pid}"))
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[0])

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._server, "kill-server"], check=False)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    made: list[Terminal] = []

    def make(*words: str, size: tuple[int, int] = (120, 40), **environment: str) -> Terminal:
        made.append(Terminal(str(len(made)), size, *words, **environment))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_broker_is_killed_and_started_by_keys(
    cluster: LiveCluster, topic: str, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("top", "-c", "live", TERM="xterm-256color")
    screen.until_seen("live  ● HEALTHY", "brokers 3/3", "? help")
    screen.press("2", "k")
    screen.until_seen("9 SIGKILL")
    screen.press("9")
    screen.until_seen("kcluster kill-broker 2 -c live")
    screen.until_seen("2 ✗ KILLED", "ISR", " x ")
    screen.press("r")
    screen.until_seen("2 ● up", "HEALTHY")
    screen.run("resize-window", "-x", "80", "-y", "24")
    screen.until_seen("ID STATE", "3/3 up")
    screen.run("resize-window", "-x", "50", "-y", "10")
    screen.until_seen("terminal too small")
    screen.run("resize-window", "-x", "120", "-y", "40")
    screen.press("q")
    screen.until_seen("leave it running")
    screen.press("q")
    screen.until_seen("cluster live runs on", "left with 0")
    assert cluster.status().is_healthy


def test_up_opens_the_screen_and_leaving_it_stops_the_cluster(
    live_home: Path, terminal: Callable[..., Terminal]
) -> None:
    try:
        screen = terminal("up", "-n", "1", "-c", "shown", "--any-port", TERM="xterm-256color")
        screen.until_seen("shown  ● HEALTHY")
        screen.press("q")
        screen.until_seen("leave it running")
        screen.press("s")
        screen.until_seen("cluster shown is down", "left with 0")
        assert holder(locate("shown")) is None
        screen = terminal("up", "-c", "shown", "--no-tui", TERM="xterm-256color")
        screen.until_seen("Ctrl-C ends the cluster")
        screen.press("C-c")
        screen.until_seen("cluster shown is down", "left with 0")
    finally:
        kcluster("purge", "-c", "shown", "--confirm", "shown")


@pytest.mark.parametrize("options", [["--ascii"], ["--read-only"]])
def test_plain_terminals_have_it_too(
    cluster: LiveCluster, terminal: Callable[..., Terminal], options: list[str]
) -> None:
    screen = terminal("top", "-c", "live", *options, size=(80, 24), TERM="vt100", NO_COLOR="1")
    text = screen.until_seen("HEALTHY", "? help")
    assert ("k kill" in text) == (options == ["--ascii"])
    coloured = screen.run("capture-pane", "-p", "-e")
    assert not [code for code in ("[31", "[32", "[33", "[34", "[36") if code in coloured]


# --- where there can be no screen ---------------------------------------------------------


def test_off_a_terminal_it_says_what_to_use_instead(cluster: LiveCluster) -> None:
    done = kcluster("top", "-c", "live")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: top needs a terminal that can be drawn on"
    assert done.stderr.splitlines()[-1] == "try: kcluster status --watch -c live"


def test_a_dumb_terminal_is_refused(cluster: LiveCluster) -> None:
    ours, its = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "top", "-c", "live"], stdin=its, stdout=its, stderr=its, check=False,
            env={**os.environ, "TERM": "dumb"}, timeout=60,
        )  # fmt: skip
        said = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == 1
    assert "TERM is dumb" in said
    assert "kcluster status --watch" in said


def test_without_a_cluster_it_says_how_to_start_one(
    live_home: Path, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("top", "-c", "nowhere", TERM="xterm-256color")
    screen.until_seen("there is no cluster nowhere", "kcluster up -c nowhere", "left with 3")


def test_a_refresh_that_makes_no_sense_is_refused() -> None:
    assert kcluster("top", "--refresh", "1ms").returncode == 2
    assert kcluster("top", "--refresh", "often").returncode == 2


def test_help_has_an_example() -> None:
    assert "kcluster top --read-only" in ok("top", "--help")
