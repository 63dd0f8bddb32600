"""Members of a group as processes, and everything that they said.

with Group(bootstrap, topic, "g", partitions=12) as group:
    group.start("confluent-kafka")
    group.wait(lambda live: live.is_shared_by(1), 30, "one owner of all")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.java import tools
from tests.live.group_history import GroupHistory, Heard, Line
from tests.node import packages

ROOT = Path(__file__).parents[2]

LIBRARIES = [
    "confluent-kafka",
    "kafka-python",
    "aiokafka",
    "kafkajs",
    "platformatic",
    "java",
    "kcluster",
]
PYTHON_LIBRARIES = LIBRARIES[:3]
"""Stock ones."""

STRATEGIES = {"kafkajs": "RoundRobinAssigner", "platformatic": "roundrobin"}
"""Of a member that is told none; the others' is range."""

JAVA_STRATEGIES = {
    "range": "RangeAssignor",
    "roundrobin": "RoundRobinAssignor",
    "sticky": "StickyAssignor",
    "cooperative-sticky": "CooperativeStickyAssignor",
}

CLASSIC, CONSUMER = "classic", "consumer"
"""Group protocols."""

LEAVE_S = 30
STDERR_LINES_MAX = 200
POLL_S = 0.005


@dataclass(frozen=True)
class Wanted:
    """Of one member."""

    library: str
    bootstrap: str
    topic: str
    group: str
    strategy: str = ""
    instance: str = ""
    session_ms: int = 0
    """0 for what the library has by itself; so is `heartbeat_ms`."""
    heartbeat_ms: int = 0
    protocol: str = CLASSIC

    def command(self) -> list[str]:
        strategy = self.strategy or STRATEGIES.get(self.library, "range")
        if self.protocol == CONSUMER:
            strategy = self.strategy or "uniform"
        if self.library == "java":
            return self._java(strategy)
        words = ["--bootstrap", self.bootstrap, "--topic", self.topic, "--group", self.group]
        words += ["--strategy", strategy]
        words += ["--protocol", self.protocol] if self.protocol != CLASSIC else []
        words += ["--session-ms", str(self.session_ms)] if self.session_ms else []
        words += ["--heartbeat-ms", str(self.heartbeat_ms)] if self.heartbeat_ms else []
        words += ["--instance", self.instance] if self.instance else []
        if self.library in (*PYTHON_LIBRARIES, "kcluster"):
            name = "confluent" if self.library == "confluent-kafka" else self.library
            module = f"tests.live.members.{name.replace('-', '_')}_member"
            return [sys.executable, "-m", module, *words]
        return ["node", str(packages.folder() / f"{self.library}_member.mjs"), *words]

    def _java(self, strategy: str) -> list[str]:
        words = ["--bootstrap-server", self.bootstrap, "--topic", self.topic]
        words += ["--group-id", self.group]
        words += ["--group-instance-id", self.instance] if self.instance else []
        if self.protocol == CONSUMER:
            words += ["--group-protocol", CONSUMER, "--group-remote-assignor", strategy]
            return tools.java("VerifiableConsumer", *words, heap="128M")
        words += ["--session-timeout", str(self.session_ms)] if self.session_ms else []
        if self.heartbeat_ms:
            line = f"heartbeat.interval.ms={self.heartbeat_ms}"
            words += ["--command-config", str(tools.properties(line))]
        assignor = f"org.apache.kafka.clients.consumer.{JAVA_STRATEGIES[strategy]}"
        words += ["--assignment-strategy", assignor]
        return tools.java("VerifiableConsumer", *words, heap="128M")


def of_verifiable_consumer(line: Line, wall_to_monotonic_ns: int) -> Line | None:
    """A line of Java's VerifiableConsumer as the other members say it."""
    said: Line = {"at_ns": int(line["timestamp"]) * 1_000_000 + wall_to_monotonic_ns}
    match line["name"]:
        case "startup_complete":
            said |= {"event": "started"}
        case "partitions_assigned" | "partitions_revoked" as name:
            partitions = [each["partition"] for each in line["partitions"]]
            said |= {"event": name.removeprefix("partitions_"), "partitions": partitions}
        case "records_consumed":
            # Neither transactions nor compaction leave holes in these topics.
            parts = line["partitions"]
            for part in parts:
                assert part["maxOffset"] - part["minOffset"] + 1 == part["count"], part
            runs = [[p["partition"], p["minOffset"], p["maxOffset"]] for p in parts]
            said |= {"event": "records", "runs": runs}
        case "offsets_committed":
            offsets = {str(each["partition"]): each["offset"] for each in line["offsets"]}
            if line["success"]:
                said |= {"event": "committed", "offsets": offsets}
            else:
                error = line.get("error", "")
                said |= {"event": "commit_failed", "offsets": offsets, "error": error}
        case "shutdown_complete":
            said |= {"event": "stopped"}
        case _:
            return None
    return said


class Member:
    """One process. What it says goes to `hear`, from a thread of its own."""

    def __init__(self, name: str, wanted: Wanted, hear: Callable[[Heard], None]) -> None:
        self.name = name
        self.wanted = wanted
        self.started_ns = time.monotonic_ns()
        self.is_told_to_leave = False
        self.errors: list[str] = []
        """The last lines of its standard error."""
        self._hear = hear
        self.process = subprocess.Popen(
            wanted.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Tells it to; `ended` waits."""
        self.is_told_to_leave = True
        self.process.terminate()

    def ended(self, timeout_s: float = LEAVE_S) -> None:
        """Until it has left and ended as it should."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.name} did not leave in {timeout_s} s") from None
        # Java's exit code says which signal ended it.
        right = (0, 143) if self.wanted.library == "java" else (0,)
        assert code in right, f"{self.name} ended with {code}: {''.join(self.errors)[-2000:]}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for thread in self._threads:
            thread.join(10)

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        wall_to_monotonic_ns = time.monotonic_ns() - time.time_ns()
        for text in self.process.stdout:
            if not text.startswith("{"):
                self.errors.append(text)
                continue
            line: Line | None = json.loads(text)
            assert line is not None
            if self.wanted.library == "java":
                line = of_verifiable_consumer(line, wall_to_monotonic_ns)
            if line is not None:
                self._hear(Heard(line["at_ns"], self.name, line))
        self._hear(Heard(time.monotonic_ns(), self.name, {"event": "ended"}))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.errors.append(text)
            del self.errors[:-STDERR_LINES_MAX]


@dataclass
class Group:
    bootstrap: str
    topic: str
    name: str
    partitions: int
    strategy: str = ""
    session_ms: int = 0
    heartbeat_ms: int = 0
    protocol: str = CLASSIC
    """Of members that are told none."""
    members: dict[str, Member] = field(default_factory=dict)
    """Those that have not been told to leave."""
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = GroupHistory(self.partitions)
        """In the order in which lines arrived: good to wait with, not to judge by."""
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._all: list[Member] = []

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._all:
            with contextlib.suppress(OSError):
                member.kill()

    def start(self, library: str, instance: str = "", protocol: str = "") -> Member:
        name = instance or f"{library}-{next(self._numbers)}"
        wanted = Wanted(
            library,
            self.bootstrap,
            self.topic,
            self.name,
            self.strategy,
            instance,
            self.session_ms,
            self.heartbeat_ms,
            protocol or self.protocol,
        )
        member = Member(name, wanted, self._hear)
        self.members[name] = member
        self._all.append(member)
        return member

    def leave(self, member: Member) -> None:
        del self.members[member.name]
        member.leave()
        member.ended()

    def leave_all(self) -> None:
        leaving = list(self.members.values())
        for member in leaving:
            member.leave()
        self.members.clear()
        for member in leaving:
            member.ended()

    def wait(
        self, is_true: Callable[[GroupHistory], bool], timeout_s: float, what: str
    ) -> GroupHistory:
        """Until it is true of what was heard; fails when it is not in time, and when a member
        ends that was not told to leave."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not is_true(self.live):
                self._check()
                if time.monotonic() > deadline:
                    raise AssertionError(f"not in {timeout_s} s: {what}; {self._state()}")
                self._changed.wait(POLL_S)
        return self.live

    def snapshot(self) -> list[Heard]:
        with self._changed:
            return list(self.heard)

    def _state(self) -> dict[str, Any]:
        return {
            "owned": {name: sorted(owned) for name, owned in self.live.owned.items()},
            "delivered below": self.live.frontier,
            "committed": self.live.committed,
            "last said": [(each.member, each.line) for each in self.heard[-6:]],
            "errors": self.live.errors,
        }

    def _check(self) -> None:
        for member in self.members.values():
            code = member.process.poll()
            if code is not None:
                said = [each.line for each in self.heard if each.member == member.name][-3:]
                stderr = "".join(member.errors)[-2000:]
                raise AssertionError(f"{member.name} ended by itself, {code}: {said} {stderr}")

    def _hear(self, heard: Heard) -> None:
        with self._changed:
            self.heard.append(heard)
            self.live.take(heard)
            self._changed.notify_all()
