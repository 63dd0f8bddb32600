"""A broker's core: routes what comes in, and settles once a turn what it made true.

    Request, KafkaRequest --> Connections --> handlers --> append, wait, answer
    Open, Ack             --> Outgoing    (this broker leads)       Replica
    Push, Diverge, Refuse --> Incoming    (this broker follows)        |
    Registered, delta     --> ClusterImage --> roles of replicas ------'
    timers                --> lag, probes, flushes, retention, checkpoints

`handle` only takes in and marks replicas as dirty. `settle`, after the disk has carried out the
turn, moves positions and high watermarks, answers who waited for them, and sends one push to
each follower and one acknowledgement to each leader: nothing that a write had to make true
leaves before it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from kcluster.config import LONG_MAX, LogConfig, Settings
from kcluster.core import traces
from kcluster.core.broker.checkpoints import CLEAN_SHUTDOWN, Checkpoints
from kcluster.core.broker.connections import Connections
from kcluster.core.broker.controller_channel import ControllerChannel, HeartbeatDue, RegisterDue
from kcluster.core.broker.forwards import Done, Forwards
from kcluster.core.broker.holds import Condition, Holds, Then
from kcluster.core.broker.neighbours import Neighbours
from kcluster.core.broker.producer_ids import Given, ProducerIds
from kcluster.core.broker.replicas import Replicas
from kcluster.core.broker.shutdown import Shutdown, ShutdownOverdue
from kcluster.core.log.partition_log import Restart
from kcluster.core.metadata import records
from kcluster.core.metadata.image import (
    BROKER_RESOURCE,
    TOPIC_RESOURCE,
    Changes,
    ClusterImage,
)
from kcluster.core.purgatory import Deadlines, Expired
from kcluster.core.replication.follower import Incoming, LookAtStreams
from kcluster.core.replication.replica import Replica
from kcluster.core.replication.streams import Outgoing, PushMarks
from kcluster.core.turn import (
    Buffer,
    Delete,
    Disconnected,
    DiskOperation,
    Event,
    Files,
    Received,
    Rename,
    Replace,
    Request,
    StoodStill,
    Synced,
    Timer,
    Truncate,
    Turn,
)
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.model import COORDINATOR, SUPERVISOR, TopicPartition
from kcluster.wire import bus

PROBE_INTERVAL_MS: Final = 500
HELD_REQUESTS: Final = 1000
"""Requests that wait until this broker may serve; a connection that brings more is closed."""
EARLY_OPENS: Final = 10_000
EARLY_OPEN_MS: Final = 2000
"""A follower that heard of its leader before the leader did waits here; it asks again anyway."""


@dataclass(slots=True)
class ProbeDue(Timer):
    pass


@dataclass(slots=True)
class LagDue(Timer):
    pass


@dataclass(slots=True)
class RetentionDue(Timer):
    pass


@dataclass(slots=True)
class FlushDue(Timer):
    pass


@dataclass(slots=True)
class MarksDue(Timer):
    """High watermarks go to their checkpoint."""


@dataclass(slots=True)
class RecoveryPointsDue(Timer):
    pass


@dataclass(frozen=True, slots=True)
class EarlyOpen:
    source: int
    incarnation: int
    entry: bus.OpenEntry
    until_ms: int


class Retried(Protocol):
    """A request that waits for something to read."""

    def retry(self, turn: Turn) -> None: ...


class BrokerCore:
    """One incarnation of a broker. `restart`: how its logs survived, clean, crash or lossy."""

    def __init__(
        self,
        broker_id: int,
        incarnation: int,
        host: str,
        port: int,
        endpoint: str,
        files: Files,
        settings: Settings,
        random: Random,
        restart: str,
        rack: str | None = None,
    ) -> None:
        self.broker_id = broker_id
        self.incarnation = incarnation
        self.settings = settings
        self.files = files
        self.image = ClusterImage()
        self.has_image = False
        self.is_ready = False
        """It was unfenced and held the image once: it serves from then on."""
        self.is_frozen = False
        """Rule 8: the cluster is going down."""
        self._restart = Restart(restart)
        self._has_started = False

        self.deadlines = Deadlines()
        self.connections = Connections(files)
        self.holds = Holds(self.deadlines)
        self.forwards = Forwards(self.deadlines)
        self.producer_ids = ProducerIds(self.deadlines)
        self.neighbours = Neighbours()
        self.checkpoints = Checkpoints(files)
        self.replica_set = Replicas(broker_id, files, random, self.log_config, self.checkpoints)
        self.replicas = self.replica_set.by_partition
        self.outgoing = Outgoing(settings.int("replica.fetch.max.bytes"), self.damaged)
        self.incoming = Incoming(
            settings.int("replica.fetch.backoff.ms"), self.mark, self._refused_bytes
        )
        session_ms = settings.int("broker.session.timeout.ms")
        heartbeat_ms = min(settings.int("broker.heartbeat.interval.ms"), max(session_ms // 3, 1))
        self.channel = ControllerChannel(
            bus.Register(broker_id, incarnation, host, port, endpoint, restart, [], rack),
            heartbeat_ms,
            self.replica_set.log_ends,
        )
        self.shutdown = Shutdown(self)
        self.lag_max_ms = settings.int("replica.lag.time.max.ms")

        self._dirty: list[Replica] = []
        self._with_tail: list[Replica] = []
        self._woken: dict[Retried, None] = {}
        self._proposing: dict[Replica, None] = {}
        """Leaders with a proposal that is not decided."""
        self._deferred: list[tuple[TopicPartition, bytes]] = []
        """Replicas to be created once a directory of the same name is out of the way."""
        self._early: dict[tuple[bytes, int, int], EarlyOpen] = {}
        self._held: list[tuple[int, memoryview]] = []
        self._incarnations: dict[int, int] = {}
        """Highest that was heard of, by bus address."""
        self._dead: dict[int, int] = {}
        """Highest incarnation that is known to have ended, by broker."""
        self._is_flush_armed = False
        self._events: dict[type[Any], Callable[[Any, Turn], None]] = {
            Request: self._request,
            Received: self._received,
            Disconnected: self._disconnected,
            Synced: self._synced,
            StoodStill: self._stood_still,
            Expired: self.deadlines.expired,
            PushMarks: lambda _, turn: self.outgoing.marks_due(),
            LookAtStreams: lambda _, turn: self.incoming.look(turn),
            HeartbeatDue: lambda _, turn: self.channel.heartbeat_due(turn, self.image.next_offset),
            RegisterDue: lambda _, turn: self.channel.register_due(turn),
            ShutdownOverdue: self.shutdown.overdue,
            ProbeDue: self._probe,
            LagDue: self._look_for_laggards,
            RetentionDue: self._retain,
            FlushDue: self._flush,
            MarksDue: self._checkpoint_marks,
            RecoveryPointsDue: self._checkpoint_recovery_points,
        }
        self._messages: dict[type[Any], Callable[[Any, Received, Turn], None]] = {
            bus.Open: self._opened,
            bus.Ack: self._acknowledged,
            bus.Push: lambda m, r, turn: self.incoming.pushed(r.source, m.entries, r.payload, turn),
            bus.Diverge: lambda m, r, turn: self.incoming.diverged(r.source, m.entries, turn),
            bus.Refuse: lambda m, r, turn: self.incoming.refused(r.source, m.entries, turn),
            bus.Registered: self._registered,
            bus.RegisterRefused: self._register_refused,
            bus.MetadataDelta: self._delta,
            bus.HeartbeatReply: self._heartbeat_answered,
            bus.PartitionAltered: lambda m, r, turn: self._mark_all(self.channel.altered(m, turn)),
            bus.ProducerIdBlock: lambda m, r, turn: self.producer_ids.answered(m, turn),
            bus.Forwarded: lambda m, r, turn: self.forwards.answered(
                m, memoryview(r.payload[0]) if r.payload else None, turn
            ),
            bus.AreYouThere: lambda m, r, turn: turn.send(r.source, bus.HereIAm(m.number)),
            bus.HereIAm: self._is_here,
            bus.KafkaRequest: self._kafka_request,
            bus.DescribeReplicas: self._describe_replicas,
            bus.DescribeImage: self._describe_image,
            bus.Announce: self._announced,
            bus.Died: self._died,
            bus.Freeze: self._freeze,
            bus.Stop: lambda m, r, turn: self.shutdown.begin(turn, controlled=m.controlled),
        }

    # --- what others ask of a broker ------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The broker epoch, -1 while it is not registered."""
        return self.channel.broker_epoch

    @property
    def has_stopped(self) -> bool:
        """All is on disk, the clean-shutdown marker included: the process may end."""
        return self.shutdown.is_complete

    def log_config(self, topic: str) -> LogConfig:
        return self.settings.log_config(self.image.overrides(TOPIC_RESOURCE, topic))

    def mark(self, replica: Replica) -> None:
        """Look at it when this turn settles: its position, or what others may know, moved."""
        if not replica.is_dirty:
            replica.is_dirty = True
            self._dirty.append(replica)

    def staged(self, replica: Replica, base_offset: int, end_offset: int, batch: Buffer) -> None:
        """The replica's log, which this broker leads, has taken `batch`."""
        leader = replica.leader
        assert leader is not None
        if not leader.tail:
            self._with_tail.append(replica)
        leader.staged(base_offset, end_offset, batch)
        self.mark(replica)

    def wake(self, waiter: Retried) -> None:
        """Have it look again at the end of this turn."""
        self._woken[waiter] = None

    def damaged(self, replica: Replica, error: CorruptLogError) -> ApiError:
        """What it was to read is not what was written: nothing of it is served, and nothing is
        read from this log again (fault contract, C3). What to answer."""
        replica.log.fail(str(error))
        self.mark(replica)
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))

    def is_dead(self, broker_id: int) -> bool:
        """Its process, as far as the image names it, is known to have ended."""
        member = self.image.brokers.get(broker_id)
        return member is not None and self._dead.get(broker_id, -1) >= member.incarnation

    def has_dead(self) -> bool:
        return any(self.is_dead(id) for id in self._dead)

    def waits_for_election(self, topics: Iterable[str]) -> bool:
        """Rule 9: a broker that is known to be dead still leads one of them in the image."""
        if not self.has_dead():
            return False
        for name in topics:
            topic = self.image.topics.get(name)
            if topic is not None and any(
                self.is_dead(state.leader) for state in topic.partitions.values()
            ):
                return True
        return False

    def hold(self, turn: Turn, wait_ms: int, is_over: Condition, then: Then) -> None:
        """Call `then` when the image has made `is_over` true, or after `wait_ms`."""
        self.holds.add(turn, wait_ms, is_over, then)

    def forward(
        self,
        turn: Turn,
        api_key: int,
        api_version: int,
        body: Buffer,
        client_id: str | None,
        timeout_ms: int,
        done: Done,
    ) -> None:
        """Have the controller decide a request; `done(turn, error, response body)`."""
        self.forwards.send(turn, api_key, api_version, body, client_id, timeout_ms, done)

    def give_producer_id(self, turn: Turn, given: Given) -> None:
        self.producer_ids.ask(turn, self.epoch, given)

    # Membership, as leaders ask for it.

    def epoch_of(self, broker_id: int, incarnation: int) -> int:
        member = self.image.brokers.get(broker_id)
        if (
            member is None
            or member.incarnation != incarnation
            or member.is_fenced
            or member.is_shutting_down
            or self._dead.get(broker_id, -1) >= incarnation
        ):
            return -1
        return member.broker_epoch

    def registered_epoch(self, broker_id: int) -> int:
        member = self.image.brokers.get(broker_id)
        return member.broker_epoch if member is not None else -1

    # --- the core -------------------------------------------------------------------------

    def start(self, turn: Turn) -> None:
        """Recover the logs and ask to be a member. The first turn does it by itself."""
        if self._has_started:
            return
        self._has_started = True
        # From here on an end is not a clean one.
        turn.disk.append(Delete(CLEAN_SHUTDOWN))
        self.checkpoints.load(turn)
        self.replica_set.recover(turn, self._restart)
        if self.replica_set.lost_records:
            # It may miss what it had acknowledged, like after a power loss (invariant 11).
            self.channel.restart = Restart.LOSSY
        self.channel.begin(turn)
        settings = self.settings
        turn.after(PROBE_INTERVAL_MS, ProbeDue())
        turn.after(max(self.lag_max_ms // 2, 1), LagDue())
        turn.after(settings.int("log.retention.check.interval.ms"), RetentionDue())
        turn.after(settings.int("replica.high.watermark.checkpoint.interval.ms"), MarksDue())
        turn.after(settings.int("log.flush.offset.checkpoint.interval.ms"), RecoveryPointsDue())

    def handle(self, event: Event, turn: Turn) -> None:
        if not self._has_started:
            self.start(turn)
        if self.shutdown.is_complete:
            return
        route = self._events.get(type(event))
        if route is not None:
            route(event, turn)

    def settle(self, turn: Turn) -> None:
        if not self._has_started:
            self.start(turn)
            return
        self.replica_set.settled()
        if self._deferred:
            self._create_deferred(turn)
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for replica in dirty:
                replica.is_dirty = False
                self._settle(replica, turn)
        self.outgoing.push(turn)
        if self._with_tail:
            for replica in self._with_tail:
                if replica.leader is not None:
                    replica.leader.forget_tail()
            self._with_tail.clear()
        self.incoming.send(turn)
        if self._proposing:
            self._propose(turn)
        while self._woken:
            woken, self._woken = self._woken, {}
            for waiter in woken:
                waiter.retry(turn)
        self.shutdown.settle(turn)

    def _settle(self, replica: Replica, turn: Turn) -> None:
        """Count what this turn has written, and tell who waits for it."""
        log = replica.log
        if log.failure:
            self._take_offline(replica, turn, log.failure)
            return
        if log.needs_flush(turn.now_ms):
            log.flush(turn)
        leader = replica.leader
        if leader is None:
            self.incoming.written(replica)
            return
        position = replica.position
        if position != leader.position:
            leader.moved(position, turn.now_ms)
            leader.writes.reach(turn, position)
        if leader.advance(turn.now_ms, self.lag_max_ms, self):
            high_watermark = leader.high_watermark
            log.set_high_watermark(high_watermark)
            if leader.produces:
                # Invariant 6: committed it is, but by fewer than were asked for.
                is_enough = leader.has_enough_replicas
                leader.produces.reach(
                    turn,
                    high_watermark,
                    ErrorCode.NONE if is_enough else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                )
            if leader.fetches:
                for waiter in leader.fetches:
                    waiter.wake()
        self.outgoing.offer(leader, turn)
        if len(leader.maximal_isr) < len(leader.replicas):
            self._look_for_joiners(replica, turn)

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        """An operation other than an append failed: what it was for cannot be trusted."""
        match operation:
            case Rename(source, _):
                path = source
            case Replace(path, _, _) | Truncate(path, _) | Delete(path):
                pass
            case _:
                path = operation.path
        replica = self.replica_set.of_path(path)
        if replica is not None:
            self._take_offline(replica, turn, f"errno {errno} on {path}")
        else:
            turn.trace(traces.Warned(f"errno {errno} on {path}"))

    def _take_offline(self, replica: Replica, turn: Turn, cause: str) -> None:
        replica.log.fail(cause)
        replica.go_offline(turn, self.incoming, self.outgoing, cause)
        self._proposing.pop(replica, None)
        self.channel.log_failed(replica.topic_id, replica.tp.partition)
        self.channel.report_failures(turn, self._is_counted_on)

    def _is_counted_on(self, topic_id: bytes, partition: int) -> bool:
        """Metadata still has this broker lead the partition, or in its ISR."""
        topic = self.image.topic_by_id(topic_id)
        state = topic.partitions.get(partition) if topic is not None else None
        return state is not None and (state.leader == self.broker_id or self.broker_id in state.isr)

    def _refused_bytes(self, replica: Replica, turn: Turn, cause: str) -> None:
        turn.trace(traces.Warned(f"{replica.tp}: refused what its leader pushed: {cause}"))

    # --- clients --------------------------------------------------------------------------

    def _request(self, event: Request, turn: Turn) -> None:
        self._serve(event.connection, event.frame, turn)

    def _kafka_request(self, message: bus.KafkaRequest, received: Received, turn: Turn) -> None:
        if received.source >= SUPERVISOR or not received.payload:
            # Only control connections are answered; they have numbers below the supervisor's.
            return
        # Batches are patched in place, and what ZeroMQ received is not writable.
        self._serve(received.source, memoryview(bytearray(received.payload[0])), turn)

    def _serve(self, connection: int, frame: memoryview, turn: Turn) -> None:
        if self.is_ready and not self.channel.awaits_word:
            self.connections.request(self, connection, frame, turn)
        elif len(self._held) < HELD_REQUESTS:
            # Invariant 19, and before the first image: answered late rather than wrong.
            self._held.append((connection, memoryview(bytearray(frame))))
        else:
            self.connections.close(turn, connection)

    def _serve_held(self, turn: Turn) -> None:
        if self._held and self.is_ready and not self.channel.awaits_word:
            held, self._held = self._held, []
            for connection, frame in held:
                self.connections.request(self, connection, frame, turn)

    def _disconnected(self, event: Disconnected, turn: Turn) -> None:
        self.connections.disconnected(event.connection)
        if self._held:
            self._held = [held for held in self._held if held[0] != event.connection]

    # --- membership -----------------------------------------------------------------------

    def _received(self, event: Received, turn: Turn) -> None:
        route = self._messages.get(type(event.message))
        if route is None or not self._is_of_the_living(event, turn):
            return
        route(event.message, event, turn)

    def _is_of_the_living(self, event: Received, turn: Turn) -> bool:
        """False for what the dead sent before they died (see `wire/bus.py`)."""
        source = event.source
        if source < COORDINATOR:
            return True
        known = self._incarnations.get(source, 0)
        if event.source_epoch < known or event.source_epoch <= self._dead.get(source, -1):
            return False
        if event.source_epoch > known:
            self._incarnations[source] = event.source_epoch
            if source == COORDINATOR and known:
                # It has started anew and waits to hear of us.
                self.channel.heartbeat(turn, self.image.next_offset)
        return True

    def _announced(self, message: bus.Announce, received: Received, turn: Turn) -> None:
        for process in message.processes:
            known = self._incarnations.get(process.id, 0)
            if process.incarnation > known:
                self._incarnations[process.id] = process.incarnation
                if process.id == COORDINATOR and self._has_started:
                    if self.epoch >= 0:
                        self.channel.heartbeat(turn, self.image.next_offset)
                    else:
                        self.channel.register(turn)

    def _died(self, message: bus.Died, received: Received, turn: Turn) -> None:
        """Rule 6: it names an incarnation; a later one is not meant."""
        id, incarnation = message.id, message.incarnation
        if id == self.broker_id or incarnation <= self._dead.get(id, -1):
            return
        self._dead[id] = incarnation
        if id == COORDINATOR:
            return
        peer = self.outgoing.peers.get(id)
        if peer is not None and peer.incarnation <= incarnation:
            self.outgoing.drop_peer(id)
        if self._incarnations.get(id, 0) <= incarnation:
            self.incoming.leader_died(id, turn)

    def _is_here(self, message: bus.HereIAm, received: Received, turn: Turn) -> None:
        self.neighbours.answered(received.source, message.number)
        self.holds.image_changed(turn)

    def _registered(self, message: bus.Registered, received: Received, turn: Turn) -> None:
        if message.incarnation != self.incarnation or not received.payload:
            return
        if self.shutdown.is_closing:
            return
        if message.broker_epoch == self.epoch and message.metadata_offset <= self.image.next_offset:
            return
        self.channel.registered(message.broker_epoch)
        if message.metadata_offset >= self.image.next_offset:
            image = ClusterImage()
            changes = Changes()
            changes.replay(image, records.decode_all(received.payload[0]))
            image.next_offset = message.metadata_offset
            self.image = image
            self.has_image = True
            self._configure(changes, is_whole=True)
            for replica in self.replica_set.set_aside_strays(turn, image):
                self._stand_down(replica, turn)
            self._apply(changes, turn)
        self.channel.heartbeat(turn, self.image.next_offset)
        self._look_at_membership(turn)

    def _register_refused(
        self, message: bus.RegisterRefused, received: Received, turn: Turn
    ) -> None:
        if message.incarnation == self.incarnation and self.epoch < 0:
            turn.trace(traces.Warned(f"registration was refused: {message.reason}"))

    def _delta(self, message: bus.MetadataDelta, received: Received, turn: Turn) -> None:
        next_offset = self.image.next_offset
        if not self.has_image or message.end_offset <= next_offset or not received.payload:
            return
        if self.shutdown.is_closing:
            # The logs are being closed: no new role is taken.
            return
        if message.first_offset <= next_offset:
            delta = records.decode_all(received.payload[0])
            changes = Changes()
            changes.replay(self.image, delta[next_offset - message.first_offset :])
            self.image.next_offset = message.end_offset
            self._configure(changes)
            self._apply(changes, turn)
        # Tells how far we are, so that the controller may go on, or send what is missing.
        self.channel.heartbeat(turn, self.image.next_offset)
        self._look_at_membership(turn)

    def _heartbeat_answered(
        self, message: bus.HeartbeatReply, received: Received, turn: Turn
    ) -> None:
        self.channel.heartbeat_answered(message, turn)
        self._look_at_membership(turn)
        self.shutdown.look(turn)

    def _stood_still(self, event: StoodStill, turn: Turn) -> None:
        if self.epoch >= 0:
            turn.trace(traces.Warned(f"stood still for {event.gap_ms} ms"))
            self.channel.stood_still(turn, self.image.next_offset)

    def _look_at_membership(self, turn: Turn) -> None:
        """Begin to serve once unfenced with the image; go on when the word has come."""
        member = self.image.brokers.get(self.broker_id)
        if (
            not self.is_ready
            and member is not None
            and member.broker_epoch == self.epoch
            and not member.is_fenced
        ):
            self.is_ready = True
            turn.send(SUPERVISOR, bus.Ready(self.broker_id, self.incarnation))
        self._serve_held(turn)

    def _freeze(self, message: bus.Freeze, received: Received, turn: Turn) -> None:
        self.is_frozen = True

    # --- the image ------------------------------------------------------------------------

    def _configure(self, changes: Changes, *, is_whole: bool = False) -> None:
        """Take over changed configs: brokers' first, which give topics their defaults."""
        of_brokers = any(resource == BROKER_RESOURCE for resource, _ in changes.configs)
        if of_brokers or is_whole:
            self.settings.dynamic = {
                **self.image.overrides(BROKER_RESOURCE, ""),
                **self.image.overrides(BROKER_RESOURCE, str(self.broker_id)),
            }
        topics = {name for resource, name in changes.configs if resource == TOPIC_RESOURCE}
        for replica in self.replica_set:
            if of_brokers or is_whole or replica.tp.topic in topics:
                config = self.log_config(replica.tp.topic)
                replica.log.config = config
                if replica.leader is not None:
                    replica.leader.min_insync_replicas = config.min_insync_replicas
                    # A lower minimum may let the high watermark go (KAFKA-13091).
                    self.mark(replica)

    def _apply(self, changes: Changes, turn: Turn) -> None:
        """Make this broker what the image says it is."""
        for name, topic_id in changes.topics_deleted:
            for replica in [r for r in self.replica_set if r.topic_id == topic_id]:
                assert replica.tp.topic == name
                self._stand_down(replica, turn)
                self.replica_set.delete(turn, replica)
        for topic_id, partition in sorted(changes.partitions):
            self._apply_partition(topic_id, partition, turn)
        if changes.brokers:
            self.neighbours.changed(self.image, changes.brokers, turn.now_ms)
            self._members_changed(changes.brokers)
        if self._early:
            self._open_early(turn)
        self.holds.image_changed(turn)
        self.channel.report_failures(turn, self._is_counted_on)

    def _apply_partition(self, topic_id: bytes, partition: int, turn: Turn) -> None:
        topic = self.image.topic_by_id(topic_id)
        state = topic.partitions.get(partition) if topic is not None else None
        if topic is None or state is None:
            return
        tp = TopicPartition(topic.name, partition)
        replica = self.replicas.get(tp)
        if self.broker_id not in state.replicas:
            return
        if replica is None:
            if not self.replica_set.can_create(turn, tp):
                self._deferred.append((tp, topic_id))
                return
            replica = self.replica_set.create(turn, tp, topic_id)
        assert replica.topic_id == topic_id
        if replica.offline:
            replica.state = state
            self.channel.log_failed(topic_id, partition)
            return
        if replica.apply(turn, self.broker_id, state, self.incoming, self.outgoing):
            self._proposing.pop(replica, None)
            self.mark(replica)

    def _create_deferred(self, turn: Turn) -> None:
        deferred, self._deferred = self._deferred, []
        for tp, topic_id in deferred:
            if self.replica_set.can_create(turn, tp):
                self._apply_partition(topic_id, tp.partition, turn)
            else:
                turn.trace(traces.Warned(f"{tp} cannot be created: its directory stays in the way"))

    def _stand_down(self, replica: Replica, turn: Turn) -> None:
        replica.stand_down(turn, self.incoming, self.outgoing, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._proposing.pop(replica, None)

    def _members_changed(self, brokers: set[int]) -> None:
        for id in sorted(brokers):
            member = self.image.brokers.get(id)
            if member is not None and member.incarnation > self._incarnations.get(id, 0):
                self._incarnations[id] = member.incarnation
            peer = self.outgoing.peers.get(id)
            if member is not None and peer is not None and peer.incarnation < member.incarnation:
                self.outgoing.drop_peer(id)
        for replica in self.replica_set:
            # Who may join an ISR, and whom the high watermark waits for, may have changed.
            if replica.leader is not None:
                self.mark(replica)

    # --- replication ----------------------------------------------------------------------

    def _opened(self, message: bus.Open, received: Received, turn: Turn) -> None:
        refused: list[bus.RefuseEntry] = []
        for entry in message.entries:
            error = self._open(received.source, received.source_epoch, entry, turn)
            if error:
                refused.append(bus.RefuseEntry(entry.stream, error))
        if refused:
            turn.send(received.source, bus.Refuse(refused))

    def _open(self, source: int, incarnation: int, entry: bus.OpenEntry, turn: Turn) -> ErrorCode:
        """Open one stream, or say why not. Who is ahead of us is kept until we know as much."""
        name = self.image.topic_names.get(entry.topic_id)
        replica = (
            self.replicas.get(TopicPartition(name, entry.partition)) if name is not None else None
        )
        if replica is None or entry.leader_epoch > replica.leader_epoch:
            if len(self._early) < EARLY_OPENS:
                self._early[entry.topic_id, entry.partition, source] = EarlyOpen(
                    source, incarnation, entry, turn.now_ms + EARLY_OPEN_MS
                )
                return ErrorCode.NONE
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if entry.leader_epoch < replica.leader_epoch:
            # Invariant 7.
            return ErrorCode.FENCED_LEADER_EPOCH
        if replica.leader is None or source not in replica.leader.followers:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        self.outgoing.open(source, incarnation, entry, replica, turn)
        self.mark(replica)
        return ErrorCode.NONE

    def _open_early(self, turn: Turn) -> None:
        early, self._early = self._early, {}
        refused: dict[int, list[bus.RefuseEntry]] = {}
        for key, open in early.items():
            if turn.now_ms >= open.until_ms:
                continue
            error = self._open(open.source, open.incarnation, open.entry, turn)
            if error:
                refused.setdefault(open.source, []).append(
                    bus.RefuseEntry(open.entry.stream, error)
                )
            elif key in self._early:
                self._early[key] = open
        for source, entries in refused.items():
            turn.send(source, bus.Refuse(entries))

    def _acknowledged(self, message: bus.Ack, received: Received, turn: Turn) -> None:
        self._mark_all(
            self.outgoing.acknowledged(
                received.source, received.source_epoch, message.entries, turn
            )
        )

    def _mark_all(self, replicas: Iterable[Replica]) -> None:
        for replica in replicas:
            self.mark(replica)

    def _look_for_joiners(self, replica: Replica, turn: Turn) -> None:
        leader = replica.leader
        assert leader is not None
        if self.is_frozen or leader.proposal is not None:
            return
        for id, follower in leader.followers.items():
            if (
                id not in leader.isr
                and leader.may_join(follower)
                and leader.propose_expansion(follower, turn.now_ms, self)
            ):
                # The maximal ISR has grown; the high watermark waits for the newcomer from here.
                self._proposing[replica] = None
                return

    def _look_for_laggards(self, event: LagDue, turn: Turn) -> None:
        turn.after(max(self.lag_max_ms // 2, 1), LagDue())
        for replica in self.replica_set:
            leader = replica.leader
            if leader is None:
                continue
            # A follower outside the ISR may hold the high watermark back only while it keeps up.
            self.mark(replica)
            if self.is_frozen:
                continue
            lagging = leader.lagging(turn.now_ms, self.lag_max_ms)
            if lagging and leader.propose_shrink(lagging, turn.now_ms, self):
                self._proposing[replica] = None

    def _propose(self, turn: Turn) -> None:
        self._proposing = {
            replica: None
            for replica in self._proposing
            if replica.leader is not None and replica.leader.proposal is not None
        }
        if not self.is_frozen:
            self.channel.propose(turn, list(self._proposing))

    # --- time -----------------------------------------------------------------------------

    def _probe(self, event: ProbeDue, turn: Turn) -> None:
        turn.after(PROBE_INTERVAL_MS, ProbeDue())
        self.outgoing.probe(turn.now_ms)
        self.incoming.break_silence(turn)
        self.producer_ids.look(turn, self.epoch)
        self.channel.report_failures(turn, self._is_counted_on)
        if not self._is_flush_armed and any(
            replica.log.config.flush_ms < LONG_MAX for replica in self.replica_set
        ):
            self._is_flush_armed = True
            turn.after(1, FlushDue())

    def _flush(self, event: FlushDue, turn: Turn) -> None:
        """flush.ms: logs that took records that long ago. Only where a topic asks for it."""
        timed = [
            replica
            for replica in self.replica_set
            if not replica.offline and replica.log.config.flush_ms < LONG_MAX
        ]
        for replica in timed:
            if replica.log.needs_flush(turn.now_ms):
                replica.log.flush(turn)
        self._is_flush_armed = bool(timed)
        if timed:
            shortest = min(replica.log.config.flush_ms for replica in timed)
            turn.after(min(max(shortest // 2, 10), 1000), FlushDue())

    def _synced(self, event: Synced, turn: Turn) -> None:
        replica = self.replica_set.of_path(event.path)
        if replica is not None:
            replica.log.synced(event)
            self.mark(replica)
        self.shutdown.synced(event)

    def _retain(self, event: RetentionDue, turn: Turn) -> None:
        turn.after(self.settings.int("log.retention.check.interval.ms"), RetentionDue())
        for replica in self.replica_set:
            if not replica.offline:
                replica.log.apply_retention(turn)
                replica.log.expire_producers(turn.wall_ms)
                self.mark(replica)

    def _checkpoint_marks(self, event: MarksDue, turn: Turn) -> None:
        turn.after(self.settings.int("replica.high.watermark.checkpoint.interval.ms"), MarksDue())
        self.checkpoints.write_high_watermarks(turn, self.replica_set)

    def _checkpoint_recovery_points(self, event: RecoveryPointsDue, turn: Turn) -> None:
        turn.after(
            self.settings.int("log.flush.offset.checkpoint.interval.ms"), RecoveryPointsDue()
        )
        self.checkpoints.write_recovery_points(turn, self.replica_set)

    # --- status ---------------------------------------------------------------------------

    def _describe_replicas(
        self, message: bus.DescribeReplicas, received: Received, turn: Turn
    ) -> None:
        turn.send(
            received.source,
            bus.Replicas(message.request, self.broker_id, self.epoch, self.replica_set.describe()),
        )

    def _describe_image(self, message: bus.DescribeImage, received: Received, turn: Turn) -> None:
        turn.send(
            received.source,
            bus.Image(message.request, self.image.next_offset),
            [records.encode_all(self.image.records())],
        )
