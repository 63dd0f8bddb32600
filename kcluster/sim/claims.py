"""What a turn must not have done, by what it was told and what it says: for the ledger, beside the
replicas that `watch` looks at.

    heard         10: nobody listens to the dead
    broker        7: who follows in an older epoch; 17: what a whole image does not know;
                  18: how far a sync reached
    replica       15: a log whose append has failed; 8: a leader's epoch; 10: who is proposed;
                  18: what its leader counts
    controller    9, 10, 11, rules 7, 8, 10: what it granted, whom it registered, whom it let go
    answered      rules 9, 10, 11: replies to clients

Reads, never writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kcluster.check.elections import Elections, Wish
from kcluster.check.seen import InvariantViolated, require
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.turn import Event, Received, Synced
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.sim.cluster import SimCluster
from kcluster.sim.peek import peek
from kcluster.sim.process import Asked, Process
from kcluster.wire import bus
from kcluster.wire.message import Message
from kcluster.wire.messages.create_topics import CreateTopicsRequest
from kcluster.wire.messages.fetch import FetchRequest
from kcluster.wire.messages.metadata import MetadataRequest
from kcluster.wire.records import read_header

States = Mapping[TopicPartition, PartitionChanged]


class Claims:
    def __init__(self, cluster: SimCluster, elections: Elections) -> None:
        self._cluster = cluster
        self._elections = elections
        self._known: dict[int, dict[int, int]] = {}
        """Newest incarnations that each process had heard of, at the end of its last turn."""
        self._dead: dict[int, dict[int, int]] = {}
        """Incarnations that each broker knew to have ended, at the end of its last turn."""
        self._dead_before: dict[int, int] = {}
        """Those that the broker of this turn knew of when it began to answer."""
        self._made: dict[int, set[Asked]] = {}
        """Answers that each broker had at the end of its last turn, behind others still missing."""
        self._made_before: set[Asked] = set()
        """Those that the broker of this turn had when it began: made of what it knew then."""
        self._proposals: dict[tuple[int, TopicPartition], Any] = {}
        """The last one of each leader that was looked at."""
        self._placed: dict[int, set[TopicPartition]] = {}
        """Replicas of each broker, at the end of its last turn."""
        self._durable = 0
        """How much of the controller's log was committed. Its next incarnation may know of less
        for a while: that says nothing of what is durable."""

    def ended(self, process: Process) -> None:
        self._known.pop(process.id, None)
        self._dead.pop(process.id, None)
        self._made.pop(process.id, None)
        self._placed.pop(process.id, None)

    def heard(self, process: Process, events: list[Event]) -> None:
        known = self._known.get(process.id, {})
        for event in events:
            if isinstance(event, Received):
                require(
                    event.source_epoch >= known.get(event.source, 0), 10,
                    "nobody listens to the dead",
                    lambda event=event: f"process {process.id} takes {event.message} from "  # type: ignore[misc]
                    f"incarnation {event.source_epoch} of {event.source}",
                )  # fmt: skip
        if process.world is not None:
            self._known[process.id] = dict(process.world.known)

    # --- brokers --------------------------------------------------------------------------

    def broker(self, process: Process, core: Any, events: list[Event]) -> None:
        self._dead_before = told_dead(self._dead.get(process.id, {}), events)
        members = process.see("members")
        if members is not None:
            self._dead[process.id] = dict(members._dead)
        self._made_before = self._made.get(process.id, set())
        self._made[process.id] = _made(process.see("connections"))
        has_image = has_delta = False
        for event in events:
            if isinstance(event, Received):
                message = event.message
                if isinstance(message, bus.Open):
                    self._opens(core, event, message)
                has_image |= isinstance(message, bus.Registered)
                has_delta |= isinstance(message, bus.MetadataDelta)
            elif isinstance(event, Synced) and not event.errno:
                self._synced(process, core, event.path)
        # A delta may delete what a whole image has placed before it.
        if has_image and not has_delta:
            self._strays(process, core)
        self._placed[process.id] = set(core.replicas)

    def _synced(self, process: Process, core: Any, path: str) -> None:
        """A log that counts as durable to its end is so on the disk."""
        replica = core.replica_set.of_path(path)
        file = process.disk.files.get(path)
        if replica is None or replica.offline or replica.log.failure or file is None:
            return
        log, active = replica.log, replica.log.chain.active
        require(
            path != active.path
            or log.flushed_end < active.end_offset
            or file.stable >= active.written_size,
            18, "a sync covers what was written before it began",
            lambda: f"{replica.tp} on broker {process.id}: {file.stable} of "
            f"{active.written_size} bytes "
            f"are durable, and it counts {log.flushed_end}",
        )  # fmt: skip

    def _opens(self, core: Any, event: Received, message: bus.Open) -> None:
        for entry in message.entries:
            name = core.image.topic_names.get(entry.topic_id)
            replica = core.replicas.get((name, entry.partition))
            if replica is None or replica.leader is None:
                continue
            leader = replica.leader
            follower = leader.followers.get(event.source)
            stream = event.source_epoch, entry.stream
            if follower is not None and follower.newest_stream == stream:
                require(
                    entry.leader_epoch == leader.leader_epoch, 7,
                    "a leader hears followers of its epoch only",
                    f"{replica.tp}: broker {event.source} follows in epoch {entry.leader_epoch}, "
                    f"broker {core.broker_id} leads in {leader.leader_epoch}",
                )  # fmt: skip

    def _strays(self, process: Process, core: Any) -> None:
        """What a whole image did not place here is set aside, and not deleted, unless it has moved.
        Who was killed in that turn may not have come to it."""
        names = process.disk.list("")
        for tp in self._placed.get(process.id, set()) - set(core.replicas):
            state = core.image.partition(tp)
            if state is not None and process.id not in state.replicas:
                continue
            is_aside = any(name.startswith(f"{tp}.") and name.endswith("-stray") for name in names)
            require(
                is_aside or str(tp) in names, 17,
                "what metadata does not know is set aside", f"{tp} on broker {process.id}: {names}",
            )  # fmt: skip

    def replica(self, process: Process, replica: Any) -> None:
        """One that has changed, and is not offline."""
        if replica.log.failure:
            # About to go offline.
            return
        require(
            not any(owner is replica.log for owner in process.failed_appends),
            15, "no append after an I/O error",
            lambda: f"{replica.tp} on broker {process.id} goes on",
        )  # fmt: skip
        leader = replica.leader
        require(
            leader is None or replica.log.epochs.latest == leader.leader_epoch, 8,
            "an epoch is in the cache before it has a record",
            lambda: f"{replica.tp} on broker {process.id}: {replica.log.epochs.entries()}",
        )  # fmt: skip
        log = replica.log
        require(
            leader is None or leader.position < log.flushed_end + log.config.flush_messages,
            18, "what counts is as durable as its topic asks for",
            lambda: f"{replica.tp} on broker {process.id}: {log.flushed_end} is durable",
        )  # fmt: skip
        proposal = leader.proposal if leader is not None else None
        key = process.id, replica.tp
        if proposal is None or self._proposals.get(key) is proposal:
            return
        self._proposals[key] = proposal
        for other, epoch in zip(proposal.isr, proposal.broker_epochs, strict=True):
            if other not in leader.isr:
                incarnation = leader.followers[other].incarnation
                self._elections.proposed(replica.tp, other, epoch, incarnation)

    # --- the controller -------------------------------------------------------------------

    def controller(
        self, core: Any, events: list[Event], before: States, after: States,
        registered: Mapping[int, int],
    ) -> None:  # fmt: skip
        """After a turn; `registered`: incarnations by broker, before it."""
        image: ClusterImage = core.image
        elections = self._elections
        if self._durable < core.log.committed_offset:
            self._durable = core.log.committed_offset
            elections.committed(
                {
                    (topic.id, index): state.partition_epoch
                    for topic in core.log.image.topics.values()
                    for index, state in topic.partitions.items()
                }
            )
        for id, broker in image.brokers.items():
            elections.incarnations[id, broker.broker_epoch] = broker.incarnation
        for id, message in first_registrations(events).items():
            known = image.brokers.get(id)
            if known is not None and known.incarnation == message.incarnation != registered.get(id):
                elections.registered(id, _sound(message), after)
        if len(events) == 1 and isinstance(events[0], Received):
            # Alone in its turn: what has changed is what it asked for.
            self._asked(core, events[0], before, after)
        alive = frozenset(broker.id for broker in image.alive())
        elections.alive(image.topics, alive, self._cluster.now_ms)

    def _asked(self, core: Any, event: Received, before: States, after: States) -> None:
        message = event.message
        if isinstance(message, bus.AlterPartition):
            epochs = {id: broker.broker_epoch for id, broker in core.image.brokers.items()}
            for change in message.changes:
                topic = core.image.topic_by_id(change.topic_id)
                if topic is None:
                    continue
                tp = TopicPartition(topic.name, change.partition)
                was, is_now = before.get(tp), after.get(tp)
                if was is None or is_now is None or was.topic_id != change.topic_id:
                    continue
                wish = Wish(
                    change.isr, change.isr_broker_epochs, change.leader_epoch,
                    change.partition_epoch,
                )  # fmt: skip
                self._elections.granted(tp, wish, was, is_now, epochs)
        elif (
            isinstance(message, bus.Heartbeat)
            and message.wants_shutdown
            and not core.is_frozen
            and not core.partitions.is_starting
            and core.brokers.session(event.source, event.source_epoch, message.broker_epoch)
        ):
            self._elections.leaving(event.source, after, core.partitions.can_lead)

    # --- clients --------------------------------------------------------------------------

    def answered(self, broker: int, request: Message, response: Any, which: Asked) -> None:
        """A reply of `broker` leaves, in the turn that was looked at last."""
        if isinstance(request, FetchRequest) and response.responses:
            wanted = request.topics[0].partitions[0]
            told = response.responses[0].partitions[0]
            is_answer = told.error_code == ErrorCode.NONE
            tp = TopicPartition(request.topics[0].topic, wanted.partition)
            require(
                not is_answer
                or bool(told.records)
                or told.preferred_read_replica >= 0
                or told.high_watermark <= wanted.fetch_offset
                or self._lies_in_a_batch(broker, tp, wanted.fetch_offset, told.high_watermark),
                "rule 11", "a fetch returns at least one whole batch",
                lambda: f"{tp}: nothing from "
                f"{wanted.fetch_offset}, committed is {told.high_watermark}",
            )  # fmt: skip
        elif isinstance(request, MetadataRequest):
            if which not in self._made_before:
                self._dead_leaders(broker, response)
        elif isinstance(request, CreateTopicsRequest):
            for topic in response.topics:
                if topic.error_code == ErrorCode.NONE:
                    appliers = {
                        process.id
                        for process in self._cluster.processes.values()
                        if process.core is None
                        or topic.name in process.see("image").topics
                        # Started since: it serves nobody before it has an image.
                        or process.see("has_image") is False
                    }
                    now_ms = self._cluster.now_ms
                    self._elections.create_answered(topic.name, appliers, now_ms)

    def _lies_in_a_batch(self, broker: int, tp: TopicPartition, start: int, end: int) -> bool:
        """Whether no batch ends between the two offsets: `end`, a high watermark of long ago, lies
        inside what compaction has since made one batch."""
        replicas = self._cluster.processes[broker].see("replicas") or {}
        if tp not in replicas or replicas[tp].log is None:
            return False
        log = replicas[tp].log
        data = peek(log, start, 1, log.written_end)
        return bool(data) and read_header(data).last_offset >= end

    def _dead_leaders(self, broker: int, response: Any) -> None:
        image = self._cluster.processes[broker].see("image")
        if image is None:
            return
        for topic in response.topics:
            for partition in topic.partitions:
                leader = image.brokers.get(partition.leader_id)
                if leader is None or leader.id == broker:
                    continue
                if leader.incarnation <= self._dead_before.get(leader.id, -1):
                    raise InvariantViolated(
                        "rule 9", "nobody is sent to a leader that is known to be dead",
                        f"{topic.name}-{partition.partition_index}: broker {broker} names "
                        f"{partition.leader_id}",
                    )  # fmt: skip


def first_registrations(events: Sequence[Event]) -> dict[int, bus.Register]:
    """Of the newest incarnation of each broker: what counts when it registers. It may ask again
    before it hears that it is registered, and has then perhaps lost another log."""
    first: dict[int, bus.Register] = {}
    for event in events:
        if isinstance(event, Received) and isinstance(event.message, bus.Register):
            message = event.message
            known = first.get(message.broker_id)
            if known is None or known.incarnation < message.incarnation:
                first[message.broker_id] = message
    return first


def told_dead(known: Mapping[int, int], events: Sequence[Event]) -> dict[int, int]:
    """The newest incarnations by broker that have ended, as a broker that knew of `known` knew
    when it first answered in a turn of `events`: not what it heard behind that."""
    dead = dict(known)
    for event in events:
        if not isinstance(event, Received) or not isinstance(event.message, bus.Died):
            break
        id, incarnation = event.message.id, event.message.incarnation
        dead[id] = max(incarnation, dead.get(id, -1))
    return dead


def _made(connections: Any) -> set[Asked]:
    """What is answered and has not left: answers leave in the order of the requests."""
    if connections is None:
        return set()
    return {
        (connection, call.header.correlation_id)
        for connection, waiting in connections._calls.items()
        for call in waiting
        if call.parts is not None
    }


def _sound(message: bus.Register) -> set[tuple[bytes, int]]:
    if message.restart == "lossy":
        return set()
    return {(log.topic_id, log.partition) for log in message.logs if not log.is_damaged}
