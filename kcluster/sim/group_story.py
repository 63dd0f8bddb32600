"""The lines of a golden story that are about consumer groups.

    join <group> <member> [static=<instance>] [protocol=<name>,..] [timeout=<ms>]
    sync <group> <member> [<member>=<partitions> ...]      with partitions: it leads and assigns
    beat <group> <member>       leave <group> <member>
    commit <group> <tp> <offset> [by <member>]             by nobody: as an administrator does
    offset <group> <tp>                                    what is committed

A question about a group goes to whoever coordinates it, again and again while nobody does. `join`
and `sync` do not wait: their answers are told when they come, since they may need another
member's first. Everything else waits for its own answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep, Step
from kcluster.wire.message import Message
from kcluster.wire.messages.find_coordinator import FindCoordinatorRequest
from kcluster.wire.messages.heartbeat import HeartbeatRequest
from kcluster.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kcluster.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kcluster.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kcluster.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from kcluster.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

ELSEWHERE = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
"""Answers after which the question is put again."""

WAIT_MS = 20_000

_NUMBER = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def named(text: str) -> str:
    """Without the numbers that make member ids unique."""
    return _NUMBER.sub("", text)


@dataclass(slots=True)
class Member:
    client: SimClient
    instance: str | None = None
    id: str = ""
    generation: int = -1


class GroupStory:
    def __init__(
        self,
        new_client: Callable[[str], SimClient],
        tell: Callable[[str], None],
        finish: Callable[[SimClient, str], None],
    ) -> None:
        self._new_client = new_client
        self._tell = tell
        self._finish = finish
        self._members: dict[str, Member] = {}

    def _member(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = Member(self._new_client(name))
        return member

    # --- finding the coordinator ----------------------------------------------------------

    def _ask(
        self, client: SimClient, group: str, request: Message, version: int
    ) -> Generator[Step, Any, Any]:
        """The answer of the group's coordinator, whoever that is by then."""
        while True:
            found = yield Call(client.some_broker(), FindCoordinatorRequest(key=group), 3)
            if found is not None and not found.error_code:
                response = yield Call(found.node_id, request, version, WAIT_MS)
                if response is not None and error_of(response) not in ELSEWHERE:
                    return response
            yield Sleep(RETRY_BACKOFF_MS)

    # --- members --------------------------------------------------------------------------

    def do_join(self, words: list[str]) -> None:
        group, name = words[:2]
        options = dict(word.split("=", 1) for word in words[2:])
        member = self._member(name)
        member.instance = options.get("static", member.instance)
        protocols = options.get("protocol", "range").split(",")
        timeout_ms = int(options.get("timeout", "10000"))

        def life() -> Life:
            while True:
                request = JoinGroupRequest(
                    group_id=group,
                    session_timeout_ms=timeout_ms,
                    rebalance_timeout_ms=timeout_ms,
                    member_id=member.id,
                    group_instance_id=member.instance,
                    protocol_type="consumer",
                    protocols=[JoinGroupRequestProtocol(name=each) for each in protocols],
                )
                told = yield from self._ask(member.client, group, request, 9)
                if told.error_code != ErrorCode.MEMBER_ID_REQUIRED:
                    break
                member.id = told.member_id
            if told.error_code:
                self._tell(f"{name}: {ErrorCode(told.error_code).name}")
                return
            member.id, member.generation = told.member_id, told.generation_id
            others = ", ".join(named(each.member_id) for each in told.members)
            leads = f", leads {others}" if told.leader == told.member_id else ""
            self._tell(f"{name}: in generation {told.generation_id}, {told.protocol_name}{leads}")

        member.client.live(life())

    def do_sync(self, words: list[str]) -> None:
        group, name = words[:2]
        member = self._member(name)
        given = dict(word.split("=", 1) for word in words[2:])
        request = SyncGroupRequest(
            group_id=group,
            generation_id=member.generation,
            member_id=member.id,
            group_instance_id=member.instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[
                SyncGroupRequestAssignment(
                    member_id=self._member(other).id, assignment=partitions.encode()
                )
                for other, partitions in given.items()
            ],
        )

        def life() -> Life:
            told = yield from self._ask(member.client, group, request, 5)
            if told.error_code:
                self._tell(f"{name}: {ErrorCode(told.error_code).name}")
            else:
                self._tell(f"{name}: has {told.assignment.decode() or 'nothing'}")

        member.client.live(life())

    def do_beat(self, words: list[str]) -> None:
        group, name = words
        member = self._member(name)
        request = HeartbeatRequest(
            group_id=group,
            generation_id=member.generation,
            member_id=member.id,
            group_instance_id=member.instance,
        )
        self._say(name, group, request, 4)

    def do_leave(self, words: list[str]) -> None:
        group, name = words
        member = self._member(name)
        identity = MemberIdentity(member_id=member.id, group_instance_id=member.instance)
        self._say(name, group, LeaveGroupRequest(group_id=group, members=[identity]), 5)

    # --- offsets --------------------------------------------------------------------------

    def do_commit(self, words: list[str]) -> None:
        group, place, offset = words[:3]
        tp = _partition(place)
        request = OffsetCommitRequest(
            group_id=group,
            topics=[
                OffsetCommitRequestTopic(
                    name=tp.topic,
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=tp.partition, committed_offset=int(offset)
                        )
                    ],
                )
            ],
        )
        name = words[4] if len(words) > 4 else "admin"
        if name != "admin":
            member = self._member(name)
            request.generation_id_or_member_epoch = member.generation
            request.member_id = member.id
            request.group_instance_id = member.instance
        self._say(name, group, request, 9)

    def do_offset(self, words: list[str]) -> None:
        group, place = words
        tp = _partition(place)
        client = self._new_client("reader")
        topic = OffsetFetchRequestTopics(name=tp.topic, partition_indexes=[tp.partition])
        wanted = OffsetFetchRequestGroup(group_id=group, topics=[topic])

        def life() -> Life:
            told = yield from self._ask(client, group, OffsetFetchRequest(groups=[wanted]), 9)
            [partition] = told.groups[0].topics[0].partitions
            offset = partition.committed_offset
            self._tell(f"{group} {place}: {offset if offset >= 0 else 'nothing committed'}")

        client.live(life())
        self._finish(client, "the offset is told")

    def _say(self, name: str, group: str, request: Message, version: int) -> None:
        def life() -> Life:
            told = yield from self._ask(client, group, request, version)
            error = error_of(told)
            self._tell(f"{name}: {ErrorCode(error).name if error else 'ok'}")

        # A join of the same member may still wait for its answer.
        client = self._new_client(name)
        client.live(life())
        self._finish(client, "an answer")


def error_of(response: Any) -> int:
    """The first error that it tells, at whatever level."""
    if getattr(response, "error_code", 0):
        return int(response.error_code)
    for name in ("groups", "topics", "partitions", "members"):
        for part in getattr(response, name, None) or ():
            error = error_of(part)
            if error:
                return error
    return 0


def _partition(text: str) -> TopicPartition:
    topic, _, index = text.rpartition("-")
    return TopicPartition(topic, int(index))
