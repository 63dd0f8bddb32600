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
from random import Random
from typing import Any, Final, Protocol

from kcluster.config import LogConfig, Settings
from kcluster.core import traces
from kcluster.core.broker.checkpoints import CLEAN_SHUTDOWN, Checkpoints
from kcluster.core.broker.connections import Connections
from kcluster.core.broker.controller_channel import (
    ControllerChannel,
    HeartbeatDue,
    RegisterDue,
    first_number,
)
from kcluster.core.broker.forwards import Done, Forwards
from kcluster.core.broker.groups import Groups, LoadGroups, SessionsExpired
from kcluster.core.broker.holds import Condition, Holds, Then
from kcluster.core.broker.members import Members
from kcluster.core.broker.neighbours import Neighbours
from kcluster.core.broker.producer_ids import Given, ProducerIds
from kcluster.core.broker.quotas.quotas import ClientQuotas, Stopwatch
from kcluster.core.broker.replicas import Replicas
from kcluster.core.broker.roles import Roles
from kcluster.core.broker.shutdown import Shutdown, ShutdownOverdue
from kcluster.core.broker.status import Status
from kcluster.core.broker.upkeep import Upkeep
from kcluster.core.log.partition_log import Restart
from kcluster.core.metadata import records
from kcluster.core.metadata.image import TOPIC_RESOURCE, Changes, ClusterImage
from kcluster.core.purgatory import Deadlines, Expired
from kcluster.core.replication.follower import Incoming, LookAtStreams
from kcluster.core.replication.replica import Replica
from kcluster.core.replication.streams import Outgoing, PushMarks, ThrottleDue
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
    Truncate,
    Turn,
)
from kcluster.core.watchers import TellDue
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.model import SUPERVISOR
from kcluster.wire import bus, telling

HELD_REQUESTS: Final = 1000
"""Requests that wait until this broker may serve; a connection that brings more is closed."""


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
        stopwatch: Stopwatch = lambda: 0,
    ) -> None:
        """`stopwatch` measures what requests take, for those who have a quota of that."""
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
        self.has_started = False

        self.deadlines = Deadlines()
        self.connections = Connections(files)
        self.quotas = ClientQuotas(settings, stopwatch)
        self.holds = Holds(self.deadlines)
        self.forwards = Forwards(self.deadlines, first_number(incarnation))
        self.producer_ids = ProducerIds(self.deadlines, first_number(incarnation))
        self.neighbours = Neighbours()
        self.checkpoints = Checkpoints(files)
        self.replica_set = Replicas(broker_id, files, random, self.log_config, self.checkpoints)
        self.replicas = self.replica_set.by_partition
        self.outgoing = Outgoing(settings.int("replica.fetch.max.bytes"), self.damaged)
        self.incoming = Incoming(
            settings.int("replica.fetch.backoff.ms"),
            self.mark,
            self._refused_bytes,
            first_number(incarnation),
        )
        session_ms = settings.int("broker.session.timeout.ms")
        heartbeat_ms = min(settings.int("broker.heartbeat.interval.ms"), max(session_ms // 3, 1))
        self.channel = ControllerChannel(
            bus.Register(broker_id, incarnation, host, port, endpoint, restart, [], rack),
            heartbeat_ms,
            self.replica_set.log_ends,
        )
        self.shutdown = Shutdown(self)
        self.members = Members(self)
        self.roles = Roles(self)
        self.upkeep = Upkeep(self)
        self.groups = Groups(self, random)
        self.status = Status(self)
        self.lag_max_ms = settings.int("replica.lag.time.max.ms")

        self._dirty: list[Replica] = []
        self._with_tail: list[Replica] = []
        self._woken: dict[Retried, None] = {}
        self._held: list[tuple[int, memoryview, str]] = []
        self._events: dict[type[Any], Callable[[Any, Turn], None]] = {
            Request: lambda event, turn: self._serve(
                event.connection, event.frame, turn, event.host
            ),
            Received: self._received,
            Disconnected: self._disconnected,
            Synced: self._synced,
            StoodStill: self._stood_still,
            Expired: self.deadlines.expired,
            SessionsExpired: self.groups.sessions.expired,
            LoadGroups: self.groups.load,
            PushMarks: lambda _, turn: self.outgoing.marks_due(),
            ThrottleDue: lambda _, turn: self.outgoing.throttle_due(),
            LookAtStreams: lambda _, turn: self.incoming.look(turn),
            HeartbeatDue: lambda _, turn: self.channel.heartbeat_due(turn, self.image.next_offset),
            RegisterDue: lambda _, turn: self.channel.register_due(turn),
            ShutdownOverdue: self.shutdown.overdue,
            TellDue: self.status.tell,
            **self.upkeep.events,
        }
        self._messages: dict[type[Any], Callable[[Any, Received, Turn], None]] = {
            bus.Open: self.roles.opened,
            bus.Ack: self._acknowledged,
            bus.Push: lambda m, r, turn: self.incoming.pushed(r.source, m.entries, r.payload, turn),
            bus.Diverge: lambda m, r, turn: self.incoming.diverged(r.source, m.entries, turn),
            bus.Refuse: lambda m, r, turn: self.incoming.refused(r.source, m.entries, turn),
            bus.Registered: self._registered,
            bus.RegisterRefused: self._refused,
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
            telling.DescribeReplicas: self.status.describe_replicas,
            telling.DescribeImage: self.status.describe_image,
            telling.Watch: self.status.watch,
            bus.CompactionEnded: self.upkeep.compactions.ended,
            bus.Announce: self.members.announced,
            bus.Died: self.members.died,
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
        self.status.traffic.wrote(replica.tp.topic, len(batch), end_offset - base_offset)
        self.mark(replica)

    def wake(self, waiter: Retried) -> None:
        """Have it look again at the end of this turn."""
        self._woken[waiter] = None

    def damaged(self, replica: Replica, error: CorruptLogError) -> ApiError:
        """What it was to read is not what was written: nothing of it is served, and nothing is
        read from this log again (fault contract, C3). What to answer."""
        replica.log.fail(str(error), is_damage=True)
        self.mark(replica)
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))

    def is_dead(self, broker_id: int) -> bool:
        """Its process, as far as the image names it, is known to have ended."""
        return self.members.is_dead(broker_id)

    def has_dead(self) -> bool:
        """Whether the image names anybody who is known to have ended."""
        return self.members.has_dead()

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

    # --- the core -------------------------------------------------------------------------

    def start(self, turn: Turn) -> None:
        """Recover the logs and ask to be a member. The first turn does it by itself."""
        if self.has_started:
            return
        self.has_started = True
        # From here on an end is not a clean one.
        turn.disk.append(Delete(CLEAN_SHUTDOWN))
        self.checkpoints.load()
        self.replica_set.recover(turn, self._restart)
        self.channel.begin(turn)
        self.upkeep.begin(turn)

    def handle(self, event: Event, turn: Turn) -> None:
        if not self.has_started:
            self.start(turn)
        kind = type(event)
        if self.shutdown.is_closing and (self.shutdown.is_complete or kind in self.upkeep.events):
            # The logs are closed: nothing more is done to them.
            return
        route = self._events.get(kind)
        if route is not None:
            route(event, turn)

    def settle(self, turn: Turn) -> None:
        if not self.has_started:
            self.start(turn)
            return
        self.upkeep.compactions.disk_is_done(turn)
        self.replica_set.settled()
        self.roles.create_deferred(turn)
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
        self.checkpoints.write_moved_starts(turn)
        self.roles.propose(turn)
        while self._woken:
            woken, self._woken = self._woken, {}
            for waiter in woken:
                waiter.retry(turn)
        self.shutdown.settle(turn)
        self.upkeep.compactions.settle(turn)

    def _settle(self, replica: Replica, turn: Turn) -> None:
        """Count what this turn has written, and tell who waits for it."""
        log = replica.log
        if log.failure:
            self.roles.take_offline(replica, turn, log.failure)
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
        before = leader.high_watermark
        if leader.advance(turn.now_ms, self.lag_max_ms, self.members):
            high_watermark = leader.high_watermark
            if before <= leader.epoch_start_offset < high_watermark:
                turn.trace(traces.FirstCommitted(*replica.tp, leader.leader_epoch, high_watermark))
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
        if leader.deletions:
            low_watermark = leader.low_watermark(log.log_start_offset, self.image.is_alive)
            leader.deletions.reach(turn, low_watermark)
        self.outgoing.offer(leader, turn)
        if len(leader.maximal_isr) < len(leader.replicas):
            self.roles.look_for_joiners(replica, turn)

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
            self.roles.take_offline(replica, turn, f"errno {errno} on {path}")
        else:
            turn.trace(traces.Warned(f"errno {errno} on {path}"))
        for tp in self.checkpoints.failed(path):
            if tp in self.replicas:
                self.roles.take_offline(self.replicas[tp], turn, f"errno {errno} on {path}")

    def _refused_bytes(self, replica: Replica, turn: Turn, cause: str) -> None:
        turn.trace(traces.Warned(f"{replica.tp}: refused what its leader pushed: {cause}"))

    # --- clients --------------------------------------------------------------------------

    def _kafka_request(self, message: bus.KafkaRequest, received: Received, turn: Turn) -> None:
        if received.source >= SUPERVISOR or not received.payload:
            # Only control connections are answered; they have numbers below the supervisor's.
            return
        # Batches are patched in place, and what ZeroMQ received is not writable.
        self._serve(received.source, memoryview(bytearray(received.payload[0])), turn)

    def _serve(self, connection: int, frame: memoryview, turn: Turn, host: str = "") -> None:
        if self.is_ready and not self.channel.awaits_word:
            self.connections.request(self, connection, frame, turn, host)
        elif (
            len(self._held) < HELD_REQUESTS
            and sum(len(held[1]) for held in self._held) + len(frame) <= LIMITS.held_request_bytes
        ):
            # Invariant 19, and before the first image: answered late rather than wrong.
            self._held.append((connection, memoryview(bytearray(frame)), host))
        else:
            self.connections.close(turn, connection)

    def _serve_held(self, turn: Turn) -> None:
        if self._held and self.is_ready and not self.channel.awaits_word:
            held, self._held = self._held, []
            for connection, frame, host in held:
                self.connections.request(self, connection, frame, turn, host)

    def _disconnected(self, event: Disconnected, turn: Turn) -> None:
        self.connections.disconnected(event.connection)
        if self._held:
            self._held = [held for held in self._held if held[0] != event.connection]

    # --- membership -----------------------------------------------------------------------

    def _received(self, event: Received, turn: Turn) -> None:
        route = self._messages.get(type(event.message))
        if route is None or not self.members.is_of_the_living(event, turn):
            return
        route(event.message, event, turn)

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
        self.replica_set.damage_is_known(turn)
        if message.metadata_offset >= self.image.next_offset:
            image = ClusterImage()
            changes = Changes()
            changes.replay(image, records.decode_all(received.payload[0]))
            image.next_offset = message.metadata_offset
            self.image = image
            self.has_image = True
            self.roles.configure(changes, is_whole=True)
            for replica in self.replica_set.set_aside_strays(turn, image):
                self.roles.stand_down(replica, turn)
            self.roles.apply(changes, turn)
        self.channel.heartbeat(turn, self.image.next_offset)
        self._look_at_membership(turn)

    def _refused(self, message: bus.RegisterRefused, received: Received, turn: Turn) -> None:
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
            self.roles.configure(changes)
            self.roles.apply(changes, turn)
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
        turn.trace(traces.Warned(f"stood still for {event.gap_ms} ms"))
        self.channel.stood_still(turn, self.image.next_offset)
        self.groups.stood_still(turn)

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

    # --- replication ----------------------------------------------------------------------

    def _acknowledged(self, message: bus.Ack, received: Received, turn: Turn) -> None:
        self._mark_all(
            self.outgoing.acknowledged(
                received.source, received.source_epoch, message.entries, turn
            )
        )

    def _mark_all(self, replicas: Iterable[Replica]) -> None:
        for replica in replicas:
            self.mark(replica)

    def _synced(self, event: Synced, turn: Turn) -> None:
        replica = self.replica_set.of_path(event.path)
        if replica is not None:
            replica.log.synced(event)
            self.mark(replica)
        self.shutdown.synced(event)
