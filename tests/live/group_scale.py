"""Many groups, and one large one: memory, CPU at rest, the time of a rebalance.

    python -m tests.live.group_scale                        a cluster of its own
    python -m tests.live.group_scale --bootstrap HOST:PORT,... --peer-script kafka.py
                                                            somebody else's, for comparison

Members speak the protocol on sockets of their own, without a client library: their cost is not in
the figures. Prints one JSON object; memory in MiB, CPU in percent of one core, times in ms.

bare      before any group
groups    1000 groups of one member, each with a committed offset: while they send a heartbeat
          every 3 s, and while they are silent, over 20 s each
rebalance one group of 100 members; from the 101st's JoinGroup to everybody's new assignment. The
          others hear of it with their next heartbeat, so `assigned` is about one interval;
          `synced` is the part from the last JoinGroup on
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import struct
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from kcluster.client.connect import parse_bootstrap
from kcluster.errors import ErrorCode
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import decode
from kcluster.wire.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from kcluster.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kcluster.wire.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from kcluster.wire.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
)
from kcluster.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kcluster.wire.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from kcluster.wire.plan import Message
from tests.live import killing
from tests.live.kill_leader import parse, reach

VERSIONS = {8: 9, 10: 4, 11: 9, 12: 4, 13: 5, 14: 5}
"""By API key; what new clients speak."""
ANSWER_S = 60
BUSY_S = 30
SESSION_MS = 45_000
REBALANCE_MS = 60_000
AT_ONCE = 50
"""Groups that are made at one time."""
REBALANCES = 5
PARTITIONS = 12
NOT_YET = {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
}

R = TypeVar("R", bound=Message)
Address = tuple[str, int]


class Connection:
    """One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation = 0

    @classmethod
    async def open(cls, address: Address) -> Connection:
        return cls(*await asyncio.wait_for(asyncio.open_connection(*address), ANSWER_S))

    async def ask(self, request: Message, response: type[R]) -> R:
        return await asyncio.wait_for(self._ask(request, response), ANSWER_S)

    async def _ask(self, request: Message, response: type[R]) -> R:
        version = VERSIONS[request.KEY]
        self._correlation += 1
        frame = request_frame(request, version, self._correlation, "group-scale")
        self._writer.write(b"".join(frame))
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        answer = memoryview(await self._reader.readexactly(size))
        correlation, position = parse_response_header(answer, request.KEY, version)
        assert correlation == self._correlation
        return decode(response, answer, version, position)

    def close(self) -> None:
        self._writer.close()


async def find(bootstrap: str, group: str) -> Address:
    deadline = time.monotonic() + BUSY_S
    connection = await Connection.open(parse_bootstrap(bootstrap)[0])
    try:
        while True:
            asked = FindCoordinatorRequest(coordinator_keys=[group])
            [found] = (await connection.ask(asked, FindCoordinatorResponse)).coordinators
            if found.error_code == 0:
                return found.host, found.port
            assert time.monotonic() < deadline, f"nobody coordinates {group}: {found}"
            await asyncio.sleep(0.02)
    finally:
        connection.close()


# --- what consumers tell each other, opaque to the broker (ConsumerProtocol, version 0) ----------


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def subscription(topic: str) -> bytes:
    return struct.pack(">hi", 0, 1) + text(topic) + struct.pack(">i", -1)


def assignment(topic: str, partitions: list[int]) -> bytes:
    numbers = struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    return struct.pack(">hi", 0, 1) + text(topic) + numbers + struct.pack(">i", -1)


@dataclass
class Member:
    group: str
    topic: str
    connection: Connection
    id: str = ""
    generation: int = -1
    joined_ns: int = 0
    """When its last JoinGroup was sent."""
    assigned_ns: int = 0
    """When its last assignment came."""
    stops: asyncio.Event = field(default_factory=asyncio.Event)

    async def join(self) -> None:
        """Until it has an assignment."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            asked = JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                member_id=self.id,
                protocol_type="consumer",
                protocols=[
                    JoinGroupRequestProtocol(name="range", metadata=subscription(self.topic))
                ],
            )
            self.joined_ns = time.monotonic_ns()
            joined = await self.connection.ask(asked, JoinGroupResponse)
            if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.id = joined.member_id
            elif joined.error_code in NOT_YET:
                await asyncio.sleep(0.02)
            else:
                assert joined.error_code == 0, joined
                self.id = joined.member_id
                if await self.sync(joined):
                    return
        raise AssertionError(f"no assignment in {ANSWER_S} s")

    async def sync(self, joined: JoinGroupResponse) -> bool:
        """False when the group rebalances again."""
        ids = [member.member_id for member in joined.members]
        asked = SyncGroupRequest(
            group_id=self.group,
            generation_id=joined.generation_id,
            member_id=self.id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[
                SyncGroupRequestAssignment(
                    member_id=id,
                    assignment=assignment(self.topic, list(range(PARTITIONS))[at :: len(ids)]),
                )
                for at, id in enumerate(ids)
            ],
        )
        synced = await self.connection.ask(asked, SyncGroupResponse)
        if synced.error_code == ErrorCode.REBALANCE_IN_PROGRESS:
            return False
        assert synced.error_code == 0, synced
        assert bytes(synced.assignment), "an empty assignment"
        self.assigned_ns = time.monotonic_ns()
        self.generation = joined.generation_id
        return True

    async def commit(self, offset: int) -> None:
        asked = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.id,
            topics=[
                OffsetCommitRequestTopic(
                    name=self.topic,
                    partitions=[OffsetCommitRequestPartition(committed_offset=offset)],
                )
            ],
        )
        answer = await self.connection.ask(asked, OffsetCommitResponse)
        code = answer.topics[0].partitions[0].error_code
        assert code == 0, code

    async def leave(self) -> None:
        asked = LeaveGroupRequest(group_id=self.group, members=[MemberIdentity(member_id=self.id)])
        answer = await self.connection.ask(asked, LeaveGroupResponse)
        assert answer.error_code == 0, answer
        self.connection.close()

    async def live(self, heartbeat_ms: int, first_ms: float) -> None:
        """Heartbeats until `stops`, the first after `first_ms`; joins again when told to."""
        while not await self._stops_within(first_ms):
            first_ms = heartbeat_ms
            asked = HeartbeatRequest(
                group_id=self.group, generation_id=self.generation, member_id=self.id
            )
            code = (await self.connection.ask(asked, HeartbeatResponse)).error_code
            if code == ErrorCode.REBALANCE_IN_PROGRESS:
                await self.join()
            else:
                assert code == 0, ErrorCode(code)

    async def _stops_within(self, time_ms: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stops.wait(), time_ms / 1000)
        return self.stops.is_set()


async def new_member(bootstrap: str, group: str, topic: str) -> Member:
    return Member(group, topic, await Connection.open(await find(bootstrap, group)))


class Living:
    """Members that send heartbeats, until the block ends."""

    def __init__(self, heartbeat_ms: int) -> None:
        self.heartbeat_ms = heartbeat_ms
        self._tasks: dict[str, tuple[Member, asyncio.Task[None]]] = {}

    def add(self, members: list[Member]) -> None:
        for number, member in enumerate(members):
            first_ms = self.heartbeat_ms * (number + 1) / len(members)
            task = asyncio.create_task(member.live(self.heartbeat_ms, first_ms))
            self._tasks[member.id] = (member, task)

    async def remove(self, member: Member) -> None:
        """Not in the middle of a request: the connection stays good."""
        member.stops.set()
        await self._tasks.pop(member.id)[1]

    async def __aenter__(self) -> Living:
        return self

    async def __aexit__(self, *_: object) -> None:
        for member, _task in self._tasks.values():
            member.stops.set()
        await asyncio.gather(*(task for _, task in self._tasks.values()))

    def check(self) -> None:
        """Fails when one of them did."""
        for _, task in self._tasks.values():
            if task.done():
                task.result()


# --- what it costs --------------------------------------------------------------------------


def listeners(bootstrap: str) -> list[psutil.Process]:
    """The process behind each address."""
    ports = [port for _, port in parse_bootstrap(bootstrap)]
    pids = {
        found.laddr.port: found.pid
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    }
    return [psutil.Process(pids[port]) for port in ports]


def rss_mib(brokers: list[psutil.Process]) -> list[float]:
    return [round(broker.memory_info().rss / 2**20, 1) for broker in brokers]


def cpu_s(broker: psutil.Process) -> float:
    times = broker.cpu_times()
    return float(times.user + times.system)


async def rest(brokers: list[psutil.Process], rest_s: float) -> dict[str, object]:
    before, began = [cpu_s(broker) for broker in brokers], time.monotonic()
    await asyncio.sleep(rest_s)
    took = time.monotonic() - began
    used = [cpu_s(broker) - b for broker, b in zip(brokers, before, strict=True)]
    return {
        "rss_mib": rss_mib(brokers),
        "cpu_percent": [round(each / took * 100, 2) for each in used],
    }


T = TypeVar("T")


async def gather(limit: int, tasks: list[Coroutine[Any, Any, T]]) -> list[T]:
    """At most so many at one time."""
    room = asyncio.Semaphore(limit)

    async def one(task: Coroutine[Any, Any, T]) -> T:
        async with room:
            return await task

    return await asyncio.gather(*map(one, tasks))


async def many_groups(
    bootstrap: str, topic: str, count: int, brokers: list[psutil.Process], options: Any
) -> dict[str, object]:
    async def group(number: int) -> Member:
        member = await new_member(bootstrap, f"{topic}-{number}", topic)
        await member.join()
        await member.commit(number)
        return member

    began = time.monotonic()
    members = await gather(AT_ONCE, [group(number) for number in range(count)])
    report: dict[str, object] = {
        "count": count,
        "made_ms": round((time.monotonic() - began) * 1000),
    }
    async with Living(options.heartbeat_ms) as living:
        living.add(members)
        report["with_heartbeats"] = await rest(brokers, options.rest_s)
        living.check()
    report["silent"] = await rest(brokers, options.rest_s)
    began = time.monotonic()
    await gather(AT_ONCE, [member.leave() for member in members])
    report["left_ms"] = round((time.monotonic() - began) * 1000)
    return report


async def large_group(
    bootstrap: str, topic: str, count: int, brokers: list[psutil.Process], options: Any
) -> dict[str, object]:
    name = f"{topic}-large"
    members = await gather(count, [new_member(bootstrap, name, topic) for _ in range(count)])
    began = time.monotonic()
    async with Living(options.heartbeat_ms) as living:

        async def enter(member: Member) -> None:
            await member.join()
            # Who joins later makes it join again: it has to be alive.
            living.add([member])

        await gather(count, [enter(member) for member in members])
        await settle(members, living)
        report: dict[str, object] = {
            "members": count,
            "made_ms": round((time.monotonic() - began) * 1000),
            "at_rest": await rest(brokers, options.rest_s),
        }
        assigned, synced = [], []
        for _ in range(REBALANCES):
            guest = await new_member(bootstrap, name, topic)
            joining = asyncio.create_task(guest.join())
            asked_ns = time.monotonic_ns()
            await asyncio.wait_for(joining, ANSWER_S)
            living.add([guest])
            everybody = [*members, guest]
            await settle(everybody, living)
            last_ns = max(member.assigned_ns for member in everybody)
            assigned.append((last_ns - asked_ns) / 1e6)
            synced.append((last_ns - max(member.joined_ns for member in everybody)) / 1e6)
            await living.remove(guest)
            await guest.leave()
            await settle(members, living, above=guest.generation)
    await gather(AT_ONCE, [member.leave() for member in members])
    report["assigned_ms"] = figures(assigned)
    report["synced_ms"] = figures(synced)
    return report


async def settle(members: list[Member], living: Living, above: int = -1) -> None:
    """Until all are in one generation, above the one given, and were assigned something in it."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        living.check()
        generations = {member.generation for member in members}
        if len(generations) == 1 and min(generations) > above:
            return
        assert time.monotonic() < deadline, f"not in one generation: {sorted(generations)}"
        await asyncio.sleep(0.002)


def figures(times_ms: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(times_ms), 1), "worst": round(max(times_ms), 1)}


async def measure(bootstrap: str, options: argparse.Namespace) -> dict[str, object]:
    topic = f"scale-{os.getpid()}"
    killing.create_topic(bootstrap, topic, PARTITIONS, 3)
    killing.await_in_sync(bootstrap, topic, 3)
    brokers = listeners(bootstrap)
    return {
        "schema": 1,
        "heartbeat_ms": options.heartbeat_ms,
        "bare": await rest(brokers, options.rest_s),
        "groups": await many_groups(bootstrap, topic, options.groups, brokers, options),
        "rebalance": await large_group(bootstrap, topic, options.members, brokers, options),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--rest-s", type=float, default=20)
    parser.add_argument("--heartbeat-ms", type=int, default=3000)
    options = parse(parser)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with reach(options) as brokers:
        print(json.dumps(asyncio.run(measure(brokers.bootstrap, options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
