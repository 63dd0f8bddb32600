"""Simulated members of a consumer group: the same core that `kcluster consume -g` runs.

    GroupConsumerCore --outgoing--> SimClient: connections, a lane to the coordinator
          ^                              |
          '--- answers, lost, ticks -----'     everything on the wire goes into the history

A member takes records in small portions, calls them done a little later, and by chance leaves,
comes back, is killed (its connections close, its session runs out), or stands still for a while
and goes on as if it still had its partitions. `settle` ends that: whoever is away comes back,
and all stay.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from kcluster.check.groups import Committed, GroupHistory, Place
from kcluster.config import Settings
from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from kcluster.core.client.consumer import Consumed, ConsumerSettings, From
from kcluster.core.client.exchange import Exchange, Outgoing, Patience, broker_of_lane
from kcluster.core.client.group_consumer import Assigned, GroupConsumerCore
from kcluster.core.client.membership import MembershipSettings
from kcluster.core.groups.coordinator import partition_of
from kcluster.core.traces import BecameLeader
from kcluster.errors import ErrorCode
from kcluster.model import NO_EPOCH, NO_LEADER, OFFSETS_TOPIC, TopicPartition
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep, Step
from kcluster.sim.cluster import SimCluster
from kcluster.sim.process import Process
from kcluster.sim.scheduler import MS
from kcluster.wire.consumer_protocol import decode_assignment
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_fetch as of
from kcluster.wire.messages import sync_group as sg

NO_END_MS = 1_000_000
"""The core has timeouts of its own."""

GROUP_SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
}
"""Smaller than anybody may want it, so that sessions run out within a simulation."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One group: what a seed draws."""

    group: str
    members: int
    assignor: str
    restless: float
    """Chance that a member does something else than staying, at every look."""

    @staticmethod
    def draw(group: str, choice: Random) -> GroupPlan:
        return GroupPlan(
            group,
            choice.choice([1, 2, 3]),
            choice.choice([RANGE, COOPERATIVE_STICKY]),
            choice.choice([0.1, 0.3, 0.6]),
        )


class Coordinators:
    """Who coordinates which group, as nobody in the cluster can know at once."""

    def __init__(self, cluster: SimCluster) -> None:
        self._partitions = Settings(cluster.settings).int("offsets.topic.num.partitions")
        self._leaders: dict[int, tuple[int, int]] = {}
        """(leader epoch, broker) of the latest leader, by partition."""
        cluster.listeners.append(self._traced)

    def _traced(self, process: Process, trace: Any) -> None:
        if isinstance(trace, BecameLeader) and trace.topic == OFFSETS_TOPIC:
            latest = self._leaders.get(trace.partition, (NO_EPOCH, NO_LEADER))
            self._leaders[trace.partition] = max(latest, (trace.leader_epoch, process.id))

    def is_deposed(self, broker_id: int, group: str) -> bool:
        """Whether another has led the group's partition since. One that has not heard of it goes
        on telling what was committed when it led, as Kafka's does: nobody can commit with it, and
        who begins where it says reads some records again."""
        latest = self._leaders.get(partition_of(group, self._partitions))
        return latest is not None and latest[1] != broker_id


class GroupMember:
    """One process of a group; each time that it starts it is another member."""

    def __init__(
        self, client: SimClient, plan: GroupPlan, topics: list[str], coordinators: Coordinators
    ) -> None:
        self.client = client
        self.plan = plan
        self._coordinators = coordinators
        self.topics = topics
        self.core: GroupConsumerCore | None = None
        self.is_settled = False
        self._random = client.random
        self._taken: list[Consumed] = []
        self._assignments: dict[TopicPartition, int] = {}
        self._serial = 0
        self._tick_at_ms: int | None = None
        self._starts = 0
        self._missed: list[Callable[[], None]] | None = None
        """What came while it stands still; None while it does not."""

    @property
    def _history(self) -> GroupHistory:
        return self.client.history.groups

    def start(self) -> None:
        self.client.live(self.life())

    def life(self) -> Life:
        client, chance = self.client, self._random
        while not client.is_stopped:
            core = self.core
            if core is None:
                self._begin()
            elif core.is_out:
                self._look_for_problems(core)
                self.core = None
            elif not self.is_settled and chance.random() < self.plan.restless:
                match chance.choice(["leave", "die", "stand still"]):
                    case "leave":
                        core.leave(client.cluster.now_ms)
                        self._go_on()
                    case "die":
                        self._die()
                    case _:
                        self._missed = []
                        client.cluster.note(f"{client.name} stands still")
                        yield Sleep(chance.choice([300, 5_000]))
                        self._wake()
            yield Sleep(chance.randint(100, 2500))
        if self.core is not None and not self.core.is_out:
            self.core.leave(client.cluster.now_ms)
            self._go_on()

    def _begin(self) -> None:
        self._starts += 1
        chance = self._random
        brokers = list(self.client.cluster.broker_ids)
        chance.shuffle(brokers)
        self.core = GroupConsumerCore(
            Exchange(brokers, Patience(request_ms=3_000, backoff_ms=20, topic_ms=1 << 40)),
            self.plan.group,
            self.topics,
            From(),
            membership=self._membership(),
            consumer=ConsumerSettings(max_wait_ms=200),
            commit_ms=chance.choice([50, 500]),
            member_id=f"{self.client.name}/{self._starts}",
        )
        self.core.join(self.client.cluster.now_ms)
        self._go_on()

    def _membership(self) -> MembershipSettings:
        return MembershipSettings(
            session_ms=self._random.choice([1_500, 3_000]),
            rebalance_ms=4_000,
            heartbeat_ms=300,
            recount_ms=2_000,
            leave_ms=2_000,
            assignor=self.plan.assignor,
        )

    def _die(self) -> None:
        self.client.cluster.note(f"{self.client.name} dies")
        assert self.core is not None
        self._has_let_go(sorted(self.core.membership.owned))
        self.core = None
        self._taken.clear()
        self.client.hang_up()

    def _wake(self) -> None:
        """Its work comes first, then what it has missed."""
        self.client.cluster.note(f"{self.client.name} goes on")
        missed, self._missed = self._missed or [], None
        assert self.core is not None
        self.core.done(self._taken)
        self._taken.clear()
        self.core.tick(self.client.cluster.now_ms)
        self._go_on()
        for each in missed:
            each()

    def _look_for_problems(self, core: GroupConsumerCore) -> None:
        if core.problem is not None:
            self.client.surprises.append(f"{self.client.name} is out: {core.problem}")

    # --- driving the core -------------------------------------------------------------------

    def _go_on(self) -> None:
        """After everything that happened to the core: out with its requests, on with the work."""
        core = self.core
        if core is None:
            return
        self._work(core)
        while core.exchange.outgoing:
            outgoing, core.exchange.outgoing = core.exchange.outgoing, []
            for each in outgoing:
                self._send(core, each)
        deadline = core.next_deadline()
        if deadline is not None:
            self._tick_by(core, max(deadline, self.client.cluster.now_ms + 1))

    def _tick_by(self, core: GroupConsumerCore, at_ms: int) -> None:
        if self._tick_at_ms is not None and self._tick_at_ms <= at_ms:
            return
        self._tick_at_ms = at_ms
        self.client.cluster.scheduler.at(at_ms * MS, lambda: self._tick(at_ms))

    def _tick(self, at_ms: int) -> None:
        if self._tick_at_ms == at_ms:
            self._tick_at_ms = None
        if self.core is not None and self._missed is None:
            core = self.core
            core.tick(self.client.cluster.now_ms)
            for broker_id in core.exchange.take_silent():
                self.client.drop(broker_id)
            self._go_on()

    def _work(self, core: GroupConsumerCore) -> None:
        for event in core.events:
            if isinstance(event, Assigned):
                self._serial += 1
                self._assignments.update(dict.fromkeys(event.partitions, self._serial))
                self._has_got(event)
            else:
                self._has_let_go(event.partitions)
        core.events.clear()
        if self._taken and self._random.random() < 0.7:
            core.done(self._taken)
            self._taken.clear()
        taken = core.take(self._random.randint(1, 20))
        self._taken += taken
        by_partition: dict[TopicPartition, list[tuple[int, bytes]]] = {}
        for consumed in taken:
            record = consumed.record
            self._history.give(self._place(consumed.tp), record.offset)
            if record.value is not None:
                entry = record.offset, bytes(record.value)
                by_partition.setdefault(consumed.tp, []).append(entry)
        for tp, entries in by_partition.items():
            # Within one assignment nothing comes twice, and nothing is left out.
            who = f"{self.client.name}/{self._starts}/{self._assignments[tp]}"
            self.client.history.poll(who, tp, entries)
        if self._taken or core.consumer.has_records:
            self._tick_by(core, self.client.cluster.now_ms + self._random.randint(1, 30))

    def _send(self, core: GroupConsumerCore, each: Outgoing) -> None:
        client = self.client
        asked, commits = self._history.moment(), self._commits(each.request)

        def arrived(response: Any) -> None:
            broker_id = broker_of_lane(each.broker_id)
            is_old = self._coordinators.is_deposed(broker_id, self.plan.group)
            done(response, is_old)

        def done(response: Any, is_old: bool) -> None:
            if self._missed is not None:
                self._missed.append(lambda: done(response, is_old))
            elif self.core is core:
                self._heard(each.request, response, asked, commits, is_old)
                core.exchange.arrived(each.correlation, response, client.cluster.now_ms)
                self._go_on()

        client.call(Call(each.broker_id, each.request, each.version, NO_END_MS), arrived)

    # --- the history ------------------------------------------------------------------------

    def _has_got(self, event: Assigned) -> None:
        """Where the members assign, SyncGroup has told it."""

    def _has_let_go(self, partitions: Sequence[TopicPartition]) -> None:
        """Where the members assign, whose turn is over needs not be known."""

    def _place(self, tp: TopicPartition) -> Place:
        return self.plan.group, tp

    def _commits(self, request: Any) -> dict[TopicPartition, Committed]:
        if not isinstance(request, oc.OffsetCommitRequest):
            return {}
        return {
            tp: self._history.committing(
                self._place(tp),
                request.member_id,
                request.generation_id_or_member_epoch,
                partition.committed_offset,
            )
            for topic in request.topics
            for partition in topic.partitions
            for tp in [TopicPartition(topic.name, partition.partition_index)]
        }

    def _heard(
        self,
        request: Any,
        response: Any,
        asked: int,
        commits: dict[TopicPartition, Committed],
        is_old: bool,
    ) -> None:
        history = self._history
        if isinstance(response, sg.SyncGroupResponse) and not response.error_code:
            partitions = decode_assignment(response.assignment)
            generation, member = request.generation_id, request.member_id
            self.client.cluster.note(f"{self.client.name} generation {generation}: {partitions}")
            history.assigned(self.plan.group, generation, member, partitions)
        elif isinstance(response, oc.OffsetCommitResponse):
            for topic in response.topics:
                for partition in topic.partitions:
                    commit = commits[TopicPartition(topic.name, partition.partition_index)]
                    if partition.error_code == ErrorCode.NONE:
                        commit.acknowledged = history.moment()
                    elif partition.error_code in CERTAINLY_REFUSED:
                        commit.is_refused = True
        elif isinstance(response, of.OffsetFetchResponse) and not is_old:
            record_reads(history, self.plan.group, self.client.name, response, asked)


CERTAINLY_REFUSED = frozenset(
    {
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.STALE_MEMBER_EPOCH,
        ErrorCode.GROUP_ID_NOT_FOUND,
    }
)
"""Answers after which a commit is in no log."""


def record_reads(
    history: GroupHistory, group: str, who: str, response: of.OffsetFetchResponse, asked: int
) -> None:
    for answer in response.groups:
        if answer.error_code:
            continue
        for topic in answer.topics:
            for partition in topic.partitions:
                if partition.error_code == ErrorCode.NONE:
                    tp = TopicPartition(topic.name, partition.partition_index)
                    history.read((group, tp), who, partition.committed_offset, asked)


class Settling(Protocol):
    """A member that stays when it is told to."""

    client: SimClient
    is_settled: bool

    def start(self) -> None: ...


class GroupLoad:
    """Some groups over all topics of a simulation."""

    def __init__(self, cluster: SimCluster, topics: dict[str, int]) -> None:
        self.topics = topics
        self.groups: list[str] = []
        self.members: list[Settling] = []
        self.coordinators = Coordinators(cluster)
        self._cluster = cluster

    def add(self, group: str, member: Settling, after_ms: int) -> None:
        if group not in self.groups:
            self.groups.append(group)
        self.members.append(member)
        self._cluster.scheduler.after(after_ms * MS, member.start)

    def begin(self, plan: GroupPlan, make_client: Callable[[str], SimClient]) -> None:
        """The first member at once, the others one after another."""
        for number in range(plan.members):
            client = make_client(f"{plan.group}/{number}")
            member = GroupMember(client, plan, sorted(self.topics), self.coordinators)
            self.add(plan.group, member, number * client.random.randint(0, 3000))

    @property
    def have_begun(self) -> bool:
        """Every group has had a generation."""
        history = [member.client.history.groups for member in self.members[:1]]
        begun = {group for each in history for group, _, _ in each.owners}
        return all(group in begun for group in self.groups)

    def settle(self) -> None:
        for member in self.members:
            member.is_settled = True

    def missing(self, tp: TopicPartition, start_offset: int, end_offset: int) -> str:
        """What keeps a partition from being committed to its end; empty when nothing does. When
        all of it is deleted there is nothing to commit."""
        for group in self.groups:
            at = self.members[0].client.history.groups.last_known((group, tp))
            if start_offset < end_offset and at < end_offset:
                return f"{group} has committed {at} of {tp}, which ends at {end_offset}"
        return ""

    def observe(self, client: SimClient) -> Life:
        """Ask again and again what the groups have committed, as anybody may."""
        while not client.is_stopped:
            for group in self.groups:
                yield from self._ask(client, group)
            yield Sleep(client.random.randint(20, 300))

    def audit(self, client: SimClient) -> Life:
        """Ask once more, until there is an answer, for the verdict."""
        for group in self.groups:
            while not (yield from self._ask(client, group)):
                yield Sleep(RETRY_BACKOFF_MS)

    def _ask(self, client: SimClient, group: str) -> Generator[Step, Any, bool]:
        """Whether somebody answered."""
        found = yield Call(
            client.some_broker(), fc.FindCoordinatorRequest(coordinator_keys=[group]), 4
        )
        if found is None or found.coordinators[0].error_code:
            return False
        history, asked = client.history.groups, client.history.groups.moment()
        topics = [
            of.OffsetFetchRequestTopics(name=topic, partition_indexes=list(range(count)))
            for topic, count in sorted(self.topics.items())
        ]
        request = of.OffsetFetchRequest(
            groups=[of.OffsetFetchRequestGroup(group_id=group, topics=topics)]
        )
        response = yield Call(found.coordinators[0].node_id, request, 8)
        if response is None or response.groups[0].error_code:
            return False
        if not self.coordinators.is_deposed(found.coordinators[0].node_id, group):
            record_reads(history, group, client.name, response, asked)
        return True
