"""Consumer groups of real clients: rebalances and kills of their coordinator, and what was skipped.

    python -m tests.live.group_run --client confluent-kafka      a cluster of its own
    python -m tests.live.group_run --client kafka-python,aiokafka --kills 2 --rebalances 2
    python -m tests.live.group_run --client confluent-kafka,java --each --quick
                                                                 one after the other, 2 of each
    python -m tests.live.group_run --client java --cluster dev   one that runs
    python -m tests.live.group_run --client kafkajs --bootstrap HOST:PORT --peer-script kafka.py
                                                                 somebody else's, for comparison

A writer numbers records over all partitions, all the time. Members of the libraries, in turn, read
and commit after each poll; all else is as the libraries have it, unless options say otherwise.
Rebalances (one more member joins, and leaves again) and kill -9 of the broker that coordinates the
group take turns; each broker is back in sync before the next dies. Kills in quick succession tell
more of a client than of the cluster: librdkafka, cut off from a broker that it connected to less
than 10 s before, waits up to 10 s until it tries again, and its FindCoordinator with it. Before
each kill, `--calm-s 12` gives partitions back to their preferred leaders and lets that pass. At the
end everything that was written is drained.

Prints one JSON object a run, times in ms (`group_history` says what the anomalies are):

kill_to_all_partitions   from the kill to records of all partitions that were sent after it
kill_to_first_commit     from the kill to the first commit that succeeded after it
kill_to_all_commits      until what was read of all partitions is committed
join, leave              from subscribing, and from the word to leave, to everybody's new assignment
unowned                  of that, how long some partition had no owner

Ends with 11 when something was lost, skipped or given to two.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.live import killing
from tests.live.group_figures import (
    Figures,
    conclusion,
    first_commit_ns,
    first_record_ns,
    summary,
)
from tests.live.group_history import Heard, judge, unowned_ms
from tests.live.group_members import CLASSIC, CONSUMER, LIBRARIES, Group, Member
from tests.live.kill_leader import EXIT_LOST, parse, reach
from tests.live.killing import Brokers, Writer

OFFSETS_TOPIC = "__consumer_offsets"
REPLICAS = 3
SETTLE_S = 120
"""For a rebalance, and for going on after a kill. KafkaJS asks a dead coordinator for up to 45 s,
forgets who it was, and then waits for the session of its former self, 30 s."""
QUICK_KILLS = QUICK_REBALANCES = 2
QUICK_HEARTBEAT_MS = 500
"""Members hear of a rebalance with a heartbeat: most of the time of a rebalance is that wait."""
QUICK_SESSION_MS = 10_000
IN_FLIGHT_NS = 20_000_000
"""What a dead broker had answered before it died is read within this."""
EXAMPLES_MAX = 3

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Plan:
    clients: list[str]
    members: int = 3
    partitions: int = 12
    kills: int = 10
    rebalances: int = 10
    rate: float = 600
    strategy: str = ""
    is_static: bool = False
    session_ms: int = 0
    """0 for what each library has by itself; so is `heartbeat_ms`."""
    heartbeat_ms: int = 0
    calm_s: float = 0
    """Before each kill."""
    protocol: str = CLASSIC
    """Of the group; sessions and heartbeats are then what the brokers say."""
    is_revived: bool = False
    """A killed broker is started again at once, not when the group goes on without it."""


@dataclass(frozen=True)
class Shape:
    """Who owns what, and how often that changed."""

    owned: dict[str, list[int]]
    generations: dict[str, int]
    """As far as members tell."""
    assignments: int
    revocations: int


def new_topic() -> str:
    return f"group-run-{os.getpid()}-{next(_numbers)}"


def quick(clients: list[str], *, kills: int = 2, rebalances: int = 2, **more: Any) -> Plan:
    """For tests: of sessions and heartbeats that are short."""
    return Plan(
        clients,
        kills=kills,
        rebalances=rebalances,
        session_ms=QUICK_SESSION_MS,
        heartbeat_ms=QUICK_HEARTBEAT_MS,
        **more,
    )


def run_soundly(brokers: Brokers, plan: Plan) -> Run:
    """Runs it all; fails on what must not be."""
    run = Run(brokers, plan, new_topic())
    report = run.go()
    assert report["is_sound"], report
    assert report["failed"] == 0, report
    assert report["rebalances"] == plan.rebalances, report
    assert report["kills"] == plan.kills, report
    return run


class Run:
    def __init__(self, brokers: Brokers, plan: Plan, topic: str) -> None:
        self.brokers = brokers
        self.plan = plan
        self.topic = topic
        self.figures = Figures()
        self.windows: list[tuple[int, int]] = []
        """Of the rebalances: from the word to the last assignment, monotonic ns."""
        self._libraries: Iterator[str] = itertools.cycle(plan.clients)
        killing.create_topic(brokers.bootstrap, topic, plan.partitions, REPLICAS)
        killing.await_in_sync(brokers.bootstrap, topic, REPLICAS)
        self.group = Group(
            brokers.bootstrap,
            topic,
            f"group-of-{topic}",
            plan.partitions,
            plan.strategy,
            plan.session_ms,
            plan.heartbeat_ms,
            plan.protocol,
        )
        self.writer = Writer(brokers.bootstrap, topic, rate=plan.rate, partitions=plan.partitions)

    # --- what is done to the group --------------------------------------------------------

    def start_member(self, instance: str = "") -> Member:
        if self.plan.is_static and not instance:
            instance = f"instance-{len(self.group.members)}"
        return self.group.start(next(self._libraries), instance)

    def settle(self) -> None:
        members = len(self.group.members)
        # Members of the consumer protocol come to their share one after another.
        is_gradual = any(
            member.wanted.protocol == CONSUMER for member in self.group.members.values()
        )
        self.group.wait(
            lambda live: live.is_shared_by(members) and (live.is_even or not is_gradual),
            SETTLE_S,
            f"shared by {members} members",
        )

    def begin(self) -> None:
        for _ in range(self.plan.members):
            self.start_member()
        self.settle()
        self.flow(time.monotonic_ns())

    def join(self) -> Member:
        member = self.start_member()
        self.settle()
        since_ns = self.first_said(member, "started")
        self.figures.join.append((self.group.live.changed_ns - since_ns) / 1e6)
        self.windows.append((since_ns, self.group.live.changed_ns))
        self.flow(since_ns)
        return member

    def leave(self, member: Member) -> None:
        since_ns = time.monotonic_ns()
        self.group.leave(member)
        self.settle()
        self.figures.leave.append((self.group.live.changed_ns - since_ns) / 1e6)
        self.windows.append((since_ns, self.group.live.changed_ns))
        self.flow(since_ns)

    def calm_down(self) -> None:
        if self.plan.calm_s:
            killing.elect_preferred_leaders(
                self.brokers.bootstrap, self.topic, self.plan.partitions
            )
            self.flow(time.monotonic_ns())
            time.sleep(self.plan.calm_s)

    def kill_coordinator(self) -> None:
        before = self.group.live.revocations
        victim = killing.coordinator_of(self.brokers.bootstrap, self.group.name)
        killed_ns = self.brokers.kill([victim])
        if self.plan.is_revived:
            self.brokers.start([victim])
        try:
            all_partitions, first_commit, all_commits = self.flow(killed_ns)
        finally:
            if not self.plan.is_revived:
                self.brokers.start([victim])
        self.figures.all_partitions.append(all_partitions)
        self.figures.first_commit.append(first_commit)
        self.figures.all_commits.append(all_commits)
        self.await_in_sync()
        self.settle()
        self.figures.revocations_by_kills += self.group.live.revocations - before

    def await_in_sync(self) -> None:
        killing.await_in_sync(self.brokers.bootstrap, self.topic, REPLICAS)
        killing.await_in_sync(self.brokers.bootstrap, OFFSETS_TOPIC, REPLICAS)

    def flow(self, since_ns: int) -> tuple[float, float, float]:
        """Waits until records that are sent from now on were delivered from all partitions and
        are committed. From `since_ns` to these records, the first commit, and all commits: ms."""
        number = self.writer.sent
        partitions = range(self.plan.partitions)

        def target(partition: int) -> int:
            """The offset of the first of these records, as far as it is known."""
            sent = number + (partition - number) % self.plan.partitions
            while sent in self.writer.acknowledged:
                if (offset := self.writer.acknowledged[sent][2]) >= 0:
                    return offset
                sent += self.plan.partitions
            return 1 << 62

        self.group.wait(
            lambda live: all(live.frontier[p] > target(p) for p in partitions),
            SETTLE_S,
            f"records of all partitions from number {number} on",
        )
        self.group.wait(
            lambda live: all(live.committed[p] > target(p) for p in partitions),
            SETTLE_S,
            f"commits of all partitions from number {number} on",
        )
        heard = self.group.snapshot()
        targets = {partition: target(partition) for partition in partitions}
        read_ns = max(first_record_ns(heard, p, offset) for p, offset in targets.items())
        commit_ns = max(first_commit_ns(heard, p, offset) for p, offset in targets.items())
        first_ns = min(
            each.at_ns
            for each in heard
            if each.line["event"] == "committed"
            and max(each.at_ns - IN_FLIGHT_NS, each.line.get("began_ns", 0)) >= since_ns
        )
        times_ms = [(at_ns - since_ns) / 1e6 for at_ns in (read_ns, first_ns, commit_ns)]
        return times_ms[0], times_ms[1], times_ms[2]

    def first_said(self, member: Member, event: str) -> int:
        return next(
            each.at_ns
            for each in self.group.snapshot()
            if each.member == member.name and each.line["event"] == event
        )

    def shape(self) -> Shape:
        live = self.group.live
        owned = {name: sorted(owned) for name, owned in live.owned.items()}
        return Shape(owned, dict(live.generation), live.assignments, live.revocations)

    def revoked_between(self, from_ns: int, until_ns: int) -> list[int]:
        """The partitions that members gave up then."""
        return [
            partition
            for each in self.group.snapshot()
            if each.line["event"] in ("revoked", "lost") and from_ns <= each.at_ns <= until_ns
            for partition in each.line["partitions"]
        ]

    # --- from beginning to end ------------------------------------------------------------

    def go(self) -> dict[str, object]:
        with self.group:
            with self.writer:
                self.writer.await_acknowledgements(self.plan.partitions)
                self.begin()
                self.disturb()
            return self.end()

    def disturb(self) -> None:
        guest: Member | None = None
        for number in range(max(self.plan.rebalances, self.plan.kills)):
            if number < self.plan.rebalances:
                if guest is None:
                    guest = self.join()
                    progress("join", number, self.figures.join)
                else:
                    self.leave(guest)
                    guest = None
                    progress("leave", number, self.figures.leave)
            if number < self.plan.kills:
                self.calm_down()
                self.kill_coordinator()
                progress("kill", number, self.figures.all_partitions)
                progress("     first commit", number, self.figures.first_commit)

    def end(self) -> dict[str, object]:
        ends = ends_of(self.brokers.bootstrap, self.topic, self.plan.partitions)
        self.group.wait(
            lambda live: all(a >= b for a, b in zip(live.frontier, ends, strict=True)),
            SETTLE_S,
            f"drained to {ends}",
        )
        self.group.wait(
            lambda live: all(a >= b for a, b in zip(live.committed, ends, strict=True)),
            SETTLE_S,
            f"committed to {ends}",
        )
        self.group.leave_all()
        return self.report(ends)

    def report(self, ends: list[int]) -> dict[str, object]:
        heard = self.group.snapshot()
        history = judge(heard, self.plan.partitions)
        stored = committed_of(
            self.brokers.bootstrap, self.topic, self.group.name, self.plan.partitions
        )
        for from_ns, until_ns in self.windows:
            self.figures.unowned.append(unowned_ms(heard, self.plan.partitions, from_ns, until_ns))
        audit = killing.audit(self.brokers.bootstrap, self.writer)
        commits_lost = [
            f"{partition}: stored is {is_stored}, acknowledged was {acknowledged}"
            for partition, (is_stored, acknowledged) in enumerate(
                zip(stored, history.committed, strict=True)
            )
            if is_stored < acknowledged
        ]
        anomalies = {
            "lost": audit.lost,
            "duplicated": audit.duplicated,
            "misplaced": audit.misplaced,
            "commits_lost": commits_lost,
            "skipped": history.skipped,
            "ahead": history.ahead,
            "went_back": history.went_back,
            "two_owners": history.two_owners,
        }
        reported = {"overlaps": history.overlaps, "recommits": history.recommits}
        everything = {**anomalies, **reported}
        figures = self.figures
        return {
            "schema": 2,
            "clients": self.plan.clients,
            "protocol": self.plan.protocol,
            "strategy": self.plan.strategy,
            "is_static": self.plan.is_static,
            "members": self.plan.members,
            "partitions": self.plan.partitions,
            "session_ms": self.plan.session_ms or "the library's",
            "heartbeat_ms": self.plan.heartbeat_ms or "the library's",
            "calm_s": self.plan.calm_s,
            "is_revived": self.plan.is_revived,
            "is_sound": not any(anomalies.values()),
            "kills": len(figures.all_partitions),
            "kill_to_all_partitions_ms": summary(figures.all_partitions),
            "kill_to_first_commit_ms": summary(figures.first_commit),
            "kill_to_all_commits_ms": summary(figures.all_commits),
            "revocations_by_kills": figures.revocations_by_kills,
            "rebalances": len(self.windows),
            "join_ms": summary(figures.join),
            "leave_ms": summary(figures.leave),
            "unowned_ms": summary(figures.unowned),
            "written": sum(ends),
            "acknowledged": len(self.writer.acknowledged),
            "failed": len(self.writer.failures),
            "delivered": history.delivered,
            "redelivered": history.redelivered,
            "commits": history.commits,
            "generations": len({generation for generation, _ in history.owners}),
            **{name: len(found) for name, found in everything.items()},
            "commits_failed": history.commits_failed,
            "errors": history.errors,
            "examples": {name: found[:EXAMPLES_MAX] for name, found in everything.items() if found},
        }


def write_lines(path: Path, heard: list[Heard]) -> None:
    lines = sorted(heard, key=lambda each: each.at_ns)
    texts = (
        json.dumps({"member": each.member, **each.line, "at_ns": each.at_ns}) + "\n"
        for each in lines
    )
    path.write_text("".join(texts))


def progress(what: str, number: int, times_ms: list[float]) -> None:
    print(f"{what} {number + 1}: {times_ms[-1]:.0f} ms", file=sys.stderr, flush=True)


def ends_of(bootstrap: str, topic: str, partitions: int) -> list[int]:
    """The high watermark of each."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "log_level": 0})
    try:
        return [
            consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1]
            for partition in range(partitions)
        ]
    finally:
        consumer.close()


def committed_of(bootstrap: str, topic: str, group: str, partitions: int) -> list[int]:
    """As the cluster has it; below 0 where there is none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        asked = [TopicPartition(topic, partition) for partition in range(partitions)]
        return [found.offset for found in consumer.committed(asked, timeout=30)]
    finally:
        consumer.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", required=True, metavar="NAME[,NAME]", help=", ".join(LIBRARIES))
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--rebalances", type=int)
    parser.add_argument("--rate", type=float, default=600)
    parser.add_argument("--strategy", default="", help="range, cooperative-sticky, ...")
    parser.add_argument(
        "--protocol", choices=[CLASSIC, CONSUMER], default=CLASSIC, help="of the group (KIP-848)"
    )
    parser.add_argument("--static", action="store_true", help="with group.instance.id")
    parser.add_argument("--session-ms", type=int, help="instead of the library's own")
    parser.add_argument("--heartbeat-ms", type=int, help="instead of the library's own")
    parser.add_argument(
        "--each", action="store_true", help="a run for each client, not a group of them all"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_KILLS} kills, {QUICK_REBALANCES} rebalances, short sessions and heartbeats",
    )
    parser.add_argument("--calm-s", type=float, default=0, help="seconds before each kill")
    parser.add_argument(
        "--revive",
        action="store_true",
        help="start a killed broker again at once, as a supervisor does whose broker died",
    )
    parser.add_argument("--lines", metavar="FILE", help="write everything that members said there")
    options = parse(parser)
    clients = options.client.split(",")
    if unknown := set(clients) - set(LIBRARIES):
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    plan = plan_of(options, clients)
    plans = [replace(plan, clients=[each]) for each in clients] if options.each else [plan]
    is_sound = True
    with reach(options) as brokers:
        for each in plans:
            is_sound &= run_and_print(brokers, each, options.lines)
    return 0 if is_sound else EXIT_LOST


def plan_of(options: argparse.Namespace, clients: list[str]) -> Plan:
    def given(name: str, quick: int, otherwise: int) -> int:
        value: int | None = getattr(options, name)
        return value if value is not None else quick if options.quick else otherwise

    return Plan(
        clients,
        options.members,
        options.partitions,
        given("kills", QUICK_KILLS, 10),
        given("rebalances", QUICK_REBALANCES, 10),
        options.rate,
        options.strategy,
        options.static,
        given("session_ms", QUICK_SESSION_MS, 0),
        given("heartbeat_ms", QUICK_HEARTBEAT_MS, 0),
        options.calm_s,
        options.protocol,
        options.revive,
    )


def run_and_print(brokers: Brokers, plan: Plan, lines: str | None) -> bool:
    """Whether nothing was lost, skipped or given to two."""
    began = time.monotonic()
    run = Run(brokers, plan, new_topic())
    try:
        report = run.go()
    finally:
        if lines:
            write_lines(Path(lines), run.group.snapshot())
    report["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(report), flush=True)
    print(conclusion(report), file=sys.stderr, flush=True)
    return bool(report["is_sound"])


if __name__ == "__main__":
    sys.exit(main())
