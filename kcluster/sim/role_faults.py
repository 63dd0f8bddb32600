"""Faults that know who leads: leaders that write alone, are deposed while they live, come back.

Faults at random processes seldom meet in the order that historical bugs of replication need: a
leader whose records reach only some followers, and whose successors follow one another before
those have heard of it. Each fault here is one such sequence, with what matters drawn. They stop
nobody from being asked: messages are lost, brokers are killed, stopped or cut off (contract C1).

    succession    A writes, B is deaf --> B leads, C is deaf --> C leads: all have other records
    return        A leads --> B leads, A and C are deaf --> A leads: B has what nobody heard
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import Any, Final

from kcluster.check.history import History
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.sim.clients import Call, SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.network import Loss
from kcluster.wire.messages.elect_leaders import ElectLeadersRequest

LOST: Final = "lost kind"
LATE: Final = "late kind"
UNACKNOWLEDGED: Final = "lost acks"
ELECT: Final = "preferred election"
DEPOSE: Final = "depose"
ALONE: Final = "alone"
TWICE: Final = "come back twice"

ON_ROLES: Final = {
    LOST: "one kind of message is lost on some links",
    LATE: "one kind of message is late on some links, and overtaken",
    UNACKNOWLEDGED: "acknowledgements do not reach a leader, and its clients may hang up",
    ELECT: "partitions are to be led by their preferred replicas",
    DEPOSE: "a leader is deposed while it lives, perhaps its successors, too",
    ALONE: "leaders are deposed one after the other, and some do not hear them",
    TWICE: "a follower comes back twice while nobody hears who is to be in sync",
}

KINDS_OF_MESSAGES: Final = (
    "Push", "Ack", "Open", "Diverge", "Refuse", "MetadataDelta", "Heartbeat", "HeartbeatReply",
    "AlterPartition", "PartitionAltered", "Register", "Registered", "Forward", "Forwarded",
    "AreYouThere", "HereIAm",
)  # fmt: skip
DATA: Final = ("Push", "Diverge")
"""What a follower hears of its leader and writes down."""

KILLED: Final = ("kill",)
LIVING: Final = ("pause", "cut", "election")
"""How a leader is deposed."""

LOOK_MS: Final = 10
DEPOSED_WITHIN_MS: Final = 2500
"""Longer than a session; afterwards a sequence goes on as it is."""
FULL_WITHIN_MS: Final = 3000
WRITES_WITHIN_MS: Final = 800

Wait = Generator[int, None, None]
"""Milliseconds until it goes on."""


class RoleFaults:
    def __init__(
        self, cluster: SimCluster, later: Callable[[int, Callable[[], None]], None]
    ) -> None:
        """`later`: after so many milliseconds, unless faults are over by then."""
        self.cluster = cluster
        self._later = later
        self._elector: SimClient | None = None
        self._is_under_way = False
        """Leaders are being deposed: one such sequence at a time, or they spoil one another."""

    def strike(self, kind: str, random: Random, id: int, back_ms: int) -> None:
        match kind:
            case "lost kind" | "late kind":
                self._message_kind(random, id, back_ms, is_lost=kind == LOST)
            case "preferred election":
                self._elect()
            case _:
                self._go(self._sequence(kind, random, id))

    def _go(self, wait: Wait) -> None:
        delay_ms = next(wait, None)
        if delay_ms is not None:
            self._later(delay_ms, lambda: self._go(wait))

    def _sequence(self, kind: str, random: Random, id: int) -> Wait:
        tp = self._some_partition(random)
        if tp is None:
            return
        match kind:
            case "lost acks":
                yield from self._lose_acks(random, tp)
            case "come back twice":
                yield from self._come_back_twice(random, tp)
            case _ if not self._is_under_way:
                self._is_under_way = True
                yield from self._rounds(random, tp, is_heard=kind == DEPOSE)
                self._is_under_way = False
            case _:
                self.cluster.note("one is under way")

    # --- who is who -----------------------------------------------------------------------

    def _leaders(self) -> dict[TopicPartition, tuple[int, int]]:
        """By partition (leader epoch, broker): of the newest leader that lives."""
        leaders: dict[TopicPartition, tuple[int, int]] = {}
        for process in self.cluster.alive():
            if process.id != COORDINATOR:
                for tp, replica in (process.see("replicas") or {}).items():
                    if replica.leader is not None:
                        claim = replica.leader.leader_epoch, process.id
                        leaders[tp] = max(claim, leaders.get(tp, claim))
        return leaders

    def _some_partition(self, random: Random) -> TopicPartition | None:
        led = sorted(self._leaders())
        shown = [tp for tp in led if not tp.topic.startswith("__")]
        return random.choice(shown or led) if led else None

    def _leader(self, tp: TopicPartition) -> tuple[int, int]:
        return self._leaders().get(tp, (-1, 0))

    def _followers(self, tp: TopicPartition, leader: int) -> list[int]:
        """In the order in which they are elected."""
        replica = (self.cluster.processes[leader].see("replicas") or {}).get(tp)
        if replica is None or replica.leader is None:
            return []
        return [each for each in replica.leader.replicas if each != leader]

    def _end(self, tp: TopicPartition, broker: int) -> int:
        """Of its log; 0 when it does not run."""
        replica = (self.cluster.processes[broker].see("replicas") or {}).get(tp)
        return replica.log.written_end if replica is not None and replica.log is not None else 0

    def _grown(self, tp: TopicPartition, broker: int, end: int) -> Wait:
        """Until its log goes beyond `end`, or nobody has written for long."""
        for _ in range(WRITES_WITHIN_MS // LOOK_MS):
            if self._end(tp, broker) > end:
                return
            yield LOOK_MS

    def _is_full(self, tp: TopicPartition) -> bool:
        _, leader = self._leader(tp)
        replica = (self.cluster.processes[leader].see("replicas") or {}).get(tp)
        state = replica.leader if replica is not None else None
        return state is not None and len(state.isr) == len(state.replicas)

    # --- messages -------------------------------------------------------------------------

    def _lose(
        self, kinds: tuple[str, ...], source: int | None, target: int | None,
        late_us: tuple[int, int] | None = None,
    ) -> Loss:  # fmt: skip
        loss = Loss(kinds, source, target, late_us)
        self.cluster.note(f"{loss}")
        self.cluster.network.losses.append(loss)
        return loss

    def _mend(self, losses: list[Loss]) -> None:
        """Their messages come through again."""
        network = self.cluster.network
        for loss in losses:
            if loss in network.losses:
                network.losses.remove(loss)
        losses.clear()

    def _message_kind(self, random: Random, id: int, back_ms: int, *, is_lost: bool) -> None:
        kind = random.choice(KINDS_OF_MESSAGES)
        other = random.choice([each for each in self.cluster.processes if each != id])
        source, target = random.choice([(id, other), (other, id), (id, None), (None, id)])
        late_us = None if is_lost else (1000, random.choice([50_000, 500_000, 2_000_000]))
        loss = self._lose((kind,), source, target, late_us)
        self._later(back_ms, lambda: self._mend([loss]))

    def _lose_acks(self, random: Random, tp: TopicPartition) -> Wait:
        _, leader = self._leader(tp)
        losses = [self._lose(("Ack",), None, leader)]
        if random.random() < 0.5:
            # Nobody leaves the ISR meanwhile.
            losses.append(self._lose(("AlterPartition",), leader, COORDINATOR))
        for _ in range(random.randint(0, 3)):
            yield random.randint(20, 300)
            self.cluster.connections.break_some(leader, random)
        yield random.choice([random.randint(10, 500), random.randint(500, 2500)])
        self._mend(losses)

    # --- elections ------------------------------------------------------------------------

    def _elect(self) -> None:
        if self._elector is None:
            self._elector = SimClient(self.cluster, "elector", History())
        elector = self._elector
        self.cluster.note("preferred election")

        def life() -> Generator[Any, Any, None]:
            request = ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=1000)
            yield Call(elector.some_broker(), request, 2, 2000)

        elector.live(life())

    def _rounds(self, random: Random, tp: TopicPartition, *, is_heard: bool) -> Wait:
        """Leaders are deposed one after the other; unless `is_heard` each has followers that hear
        nothing of what it writes."""
        losses: list[Loss] = []
        if random.random() < 0.3:
            # One hears of nothing that is decided meanwhile.
            uninformed = random.choice(self.cluster.broker_ids)
            losses.append(self._lose(("MetadataDelta",), COORDINATOR, uninformed))
        plot = random.choice([self._succession, self._return])
        may_kill = plot == self._succession and not is_heard
        ways = random.choice([KILLED, LIVING]) if may_kill else LIVING
        yield from plot(random, tp, ways, is_heard=is_heard)
        yield random.choice([0, random.randint(0, 3000)])
        self._mend(losses)

    def _succession(
        self, random: Random, tp: TopicPartition, ways: Sequence[str], *, is_heard: bool
    ) -> Wait:
        """In quick succession; who has heard a leader does not hear its successor (KIP-279)."""
        deaf: list[Loss] = []
        for number in range(random.choice([2, 2, 3])):
            epoch, leader = self._leader(tp)
            followers = self._followers(tp, leader)
            if not followers:
                break
            if not is_heard and number == 0:
                who = followers[:1]
                if random.random() < 0.3:
                    who = random.sample(followers, random.randint(1, len(followers)))
                deaf += [self._lose(DATA, leader, each) for each in who]
            if not is_heard:
                yield from self._grown(tp, leader, self._end(tp, leader))
            yield random.choice([0, random.randint(0, 300)])
            heard = set(followers) - {loss.target for loss in deaf}
            undo = self._depose(random.choice(ways), leader)
            if not is_heard:
                self._mend(deaf)
                deaf += [self._lose(DATA, None, each) for each in sorted(heard)]
            yield from self._deposed(tp, epoch)
            self._later(random.choice([0, random.randint(0, 1500)]), undo)
        self._mend(deaf)

    def _return(
        self, random: Random, tp: TopicPartition, ways: Sequence[str], *, is_heard: bool
    ) -> Wait:
        """The first leads again, after another that wrote what nobody has heard (KAFKA-7164)."""
        for number in range(random.choice([2, 2, 3])):
            epoch, leader = self._leader(tp)
            followers = self._followers(tp, leader)
            if not followers:
                break
            deaf: list[Loss] = []
            if not is_heard and number > 0:
                deaf += [self._lose(DATA, leader, each) for each in followers]
                yield from self._grown(tp, leader, self._end(tp, leader))
            yield random.choice([0, random.randint(0, 300)])
            undo = self._depose(random.choice(ways), leader)
            yield from self._deposed(tp, epoch)
            self._mend(deaf)
            successor = self._leader(tp)[1]
            if successor:
                yield from self._grown(tp, successor, self._end(tp, leader))
            yield random.choice([0, random.randint(0, 500)])
            undo()
            for _ in range(FULL_WITHIN_MS // LOOK_MS):
                if self._is_full(tp):
                    break
                yield LOOK_MS

    def _deposed(self, tp: TopicPartition, epoch: int) -> Wait:
        """Until a leader in a newer epoch knows that it is one."""
        for _ in range(DEPOSED_WITHIN_MS // LOOK_MS):
            if self._leader(tp)[0] > epoch:
                return
            yield LOOK_MS

    def _depose(self, way: str, leader: int) -> Callable[[], None]:
        """What undoes it."""
        cluster = self.cluster
        match way:
            case "kill":
                cluster.kill(leader)
                return lambda: cluster.start(leader)
            case "pause":
                cluster.pause(leader)
                return lambda: cluster.resume(leader)
            case "cut":
                links = {(leader, COORDINATOR), (COORDINATOR, leader)}
                for link in sorted(links):
                    cluster.cut(*link)
                return lambda: cluster.network.cuts.difference_update(links)
            case _:
                # Of which it does not hear.
                loss = self._lose(("MetadataDelta",), COORDINATOR, leader)
                self._elect()
                return lambda: self._mend([loss])

    # --- restarts -------------------------------------------------------------------------

    def _come_back_twice(self, random: Random, tp: TopicPartition) -> Wait:
        """What a leader asks for is heard when the one that it was about is somebody else."""
        cluster = self.cluster
        _, leader = self._leader(tp)
        followers = self._followers(tp, leader)
        if not followers:
            return
        id = random.choice(followers)
        cluster.kill(id)
        yield random.randint(100, 600)
        late_us = random.choice([None, None, (100_000, 1_500_000)])
        losses = [self._lose(("AlterPartition",), leader, COORDINATOR, late_us)]
        cluster.start(id)
        yield random.randint(50, 700)
        cluster.kill(id)
        if random.random() < 0.5:
            # Nor does the leader hear of the new one.
            losses.append(self._lose(("Open",), id, leader))
        yield random.randint(1, 100)
        cluster.start(id)
        yield random.randint(20, 300)
        self._mend(losses[:1])
        yield random.randint(200, 2000)
        self._mend(losses)
