"""The controller: takes what brokers and the supervisor say, decides, and tells what holds.

    message --> decide: records --replay--> image (the next decision sees it)
                           |
                           v append                     Synced
                     metadata log  ------------------------------> committed
                                                                      |
       deltas to brokers, then the answers that waited  <-------------'

Nothing leaves before the records it rests on are durable (rule 7): every answer is held until
the log is committed up to where it ended when the answer was made. So an answer may also wait
for records of others, but never speaks of what could be forgotten.

Here is only who says what to whom. What becomes of it is in `brokers.py`, `partitions.py` and
`handlers/`; how it leaves, in `telling.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from random import Random

from kcluster.config import Settings
from kcluster.core.controller.brokers import Brokers, Session
from kcluster.core.controller.decision import Decision
from kcluster.core.controller.handlers.table import answer
from kcluster.core.controller.partitions import Partitions
from kcluster.core.controller.telling import ForwardTimer, Telling
from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import BROKER_RESOURCE, ClusterImage
from kcluster.core.metadata.metadata_log import MetadataLog
from kcluster.core.traces import Warned
from kcluster.core.turn import (
    Buffer,
    Delete,
    Disconnected,
    DiskOperation,
    Event,
    Files,
    Received,
    Request,
    StoodStill,
    Synced,
    Timer,
    Turn,
)
from kcluster.core.watchers import TellDue, Watchers
from kcluster.errors import ApiError, DiskError, ErrorCode
from kcluster.model import COORDINATOR, SUPERVISOR
from kcluster.wire import bus, telling
from kcluster.wire.apis import ALTER_PARTITION_REASSIGNMENTS, ELECT_LEADERS

START_WAIT_MS = 200
"""How long a start waits for all expected brokers, from the first sign of life of one."""

LEADERS_RETURN_FACTOR = 2
LEADERS_RETURN_LEAST_MS = 2_000
LEADERS_RETURN_MOST_MS = 30_000
"""A preferred leader that is in sync again leads again after twice the time that it was away,
within these bounds. For its clients have to come back first: they back off exponentially, and so
wait for about as long as they have waited before. librdkafka neither reads nor writes meanwhile
what that broker leads, and nobody waits for the leader that it takes over from."""

PRODUCER_ID_BLOCK = 1000
"""Producer ids in one block, as in Kafka."""


class SessionTimer(Timer):
    """The earliest session may have run out."""


class StartTimer(Timer):
    """The start has waited long enough."""


class RebalanceTimer(Timer):
    """Look after preferred leaders; again and again when `is_periodic`."""

    __slots__ = ("is_periodic",)

    def __init__(self, is_periodic: bool) -> None:
        self.is_periodic = is_periodic


class ControllerCore:
    """`expected_brokers` are the ids that a start waits for (START_WAIT_MS at most)."""

    def __init__(
        self,
        incarnation: int,
        files: Files,
        settings: Settings,
        random: Random,
        expected_brokers: Sequence[int] = (),
    ) -> None:
        self.incarnation = incarnation
        self.settings = Settings(settings.static)
        """Our own: with the cluster-wide overrides of the image as the dynamic layer."""
        self.random = random
        self.log = MetadataLog(files, incarnation)
        self.image = ClusterImage()
        """With all that is decided; `log.image` is what is committed."""
        self.expected_brokers = tuple(expected_brokers)
        self._forwarded: dict[int, tuple[int, int]] = {}
        """By broker, (incarnation, correlation) of the newest request that it has forwarded."""
        self.is_frozen = False
        self.is_stopping = False
        self._is_loaded = False
        self._is_ready = False
        self._has_start_timer = False
        self._session_timer_ms = -1
        """When the pending session timer is due; -1 for none."""
        self._watchers = Watchers()
        self._told_offset = -1
        """The end of the metadata that those who watch know."""
        self._rebalance_ms: int | None = None
        """When preferred leaders that came back shall lead again."""

    @property
    def has_stopped(self) -> bool:
        """Asked to stop, and nothing is left to be made durable: the process may end."""
        return self.is_stopping and self.log.committed_offset == self.log.end_offset

    # --- the core ---------------------------------------------------------------------------

    def handle(self, event: Event, turn: Turn) -> None:
        self._load_once(turn)
        match event:
            case Received():
                self._received(event, turn)
            case Synced():
                self.log.synced(turn, event)
            case SessionTimer():
                self._session_timer_ms = -1
                self._expire(turn)
            case StartTimer():
                self._end_start(turn)
            case ForwardTimer():
                pass  # telling looks at the deadlines
            case RebalanceTimer():
                self._rebalance(turn, event.is_periodic)
            case TellDue():
                self._tell_watchers(turn)
            case StoodStill():
                self.brokers.prolong(turn.now_ms)
            case Request() | Disconnected() | Timer():
                pass  # no Kafka clients here

    def settle(self, turn: Turn) -> None:
        self._load_once(turn)
        self.log.settle(turn)
        if self.telling.publish(turn):
            self.log.snapshot_if_due(turn)
        if not self._is_ready and 0 < self.log.committed_offset == self.log.end_offset:
            self._is_ready = True
            turn.send(SUPERVISOR, bus.Ready(COORDINATOR, self.incarnation))
        self._arm_session_timer(turn)

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        if isinstance(operation, Delete):
            turn.trace(Warned(f"{operation.path} stays: errno {errno}"))
            return
        raise DiskError(errno, repr(operation)[:200], "metadata log:")

    # --- loading ----------------------------------------------------------------------------

    def _load_once(self, turn: Turn) -> None:
        """In the first turn, also when it has no event: load, and write down a new cluster."""
        if self._is_loaded:
            return
        self._is_loaded = True
        self.image = self.log.load(turn)
        self._apply_dynamic_settings()
        self.partitions = Partitions(self.image, self.settings)
        self.brokers = Brokers(self.image, self.partitions, self.settings, self.expected_brokers)
        self.brokers.give_sessions(turn.now_ms, self.log.end_offset)
        self.telling = Telling(self.log, self.image, self.brokers)
        if not self.image.cluster_id:
            decision = self._decide(turn)
            id = base64.urlsafe_b64encode(self.random.randbytes(16)).rstrip(b"=").decode()
            decision.add(r.ClusterCreated(id))
            self._commit(turn, decision)
        self._schedule_rebalance(turn)

    def _apply_dynamic_settings(self) -> None:
        self.settings.dynamic = dict(self.image.overrides(BROKER_RESOURCE, ""))

    # --- decide and commit --------------------------------------------------------------------

    def _decide(self, turn: Turn) -> Decision:
        return Decision(self.image, turn, self.log.end_offset)

    def _commit(self, turn: Turn, decision: Decision) -> None:
        if decision.records:
            self.log.append(turn, decision.records)
        for trace in decision.traces:
            turn.trace(trace)

    def _answer(self, target: int, message: bus.Message, payload: Sequence[Buffer] = ()) -> None:
        """Once all that is decided so far is committed."""
        self.telling.answer(target, message, payload)

    # --- messages -----------------------------------------------------------------------------

    def _received(self, event: Received, turn: Turn) -> None:
        message = event.message
        match message:
            case bus.Register():
                self._register(event, message, turn)
            case bus.Heartbeat():
                self._heartbeat(event, message, turn)
            case bus.AlterPartition():
                self._alter_partition(event, message, turn)
            case bus.AllocateProducerIds():
                self._allocate_producer_ids(event, message, turn)
            case bus.Forward():
                self._forward(event, message, turn)
            case bus.LogDirFailed():
                self._log_dir_failed(event, message, turn)
            case bus.Died() if message.id != COORDINATOR:
                self._died(message, turn)
            case bus.Announce():
                self._announced(message, turn)
            case bus.Freeze():
                self.is_frozen = True
            case bus.Stop():
                self.is_stopping = True
            case telling.DescribeImage():
                self._answer(event.source, telling.Image(message.request, -1))
            case telling.Watch():
                if self._watchers.watch(event.source, message, turn):
                    self._tell_image(event.source)
            case _:
                pass  # not for a controller; who sent it asks again or gives up

    def _tell_watchers(self, turn: Turn) -> None:
        """The whole image: it is small, and seldom changes."""
        sources = self._watchers.due(turn)
        if self._told_offset != self.log.committed_offset:
            self._told_offset = self.log.committed_offset
            for source in sources:
                self._tell_image(source)

    def _tell_image(self, source: int) -> None:
        request, told = self._watchers.number(source)
        self._answer(source, telling.Image(request, -1, told))

    def _register(self, event: Received, message: bus.Register, turn: Turn) -> None:
        incarnation = message.incarnation
        if (event.source, event.source_epoch) != (message.broker_id, incarnation):
            return
        if self.is_frozen or self.brokers.is_dead(message.broker_id, incarnation):
            return
        reason = self.brokers.refusal(message)
        if reason:
            self._answer(event.source, bus.RegisterRefused(incarnation, reason))
            return
        decision = self._decide(turn)
        self.brokers.register(decision, message)
        self._commit(turn, decision)
        session = self.brokers.sessions[message.broker_id]
        self._answer(event.source, bus.Registered(incarnation, session.broker_epoch, -1))
        self._sign_of_life(turn)

    def _heartbeat(self, event: Received, message: bus.Heartbeat, turn: Turn) -> None:
        session = self.brokers.session(event.source, event.source_epoch, message.broker_epoch)
        if session is None or message.metadata_offset > self.log.end_offset:
            unknown = bus.HeartbeatReply(
                message.broker_epoch, message.nonce, is_fenced=True, unknown_epoch=True
            )
            self._answer(event.source, unknown)
            return
        if self.is_frozen:
            is_fenced = not self.image.is_alive(event.source)
            reply = bus.HeartbeatReply(
                session.broker_epoch, message.nonce, is_fenced, may_shut_down=message.wants_shutdown
            )
            self._answer(event.source, reply)
            return
        decision = self._decide(turn)
        self.brokers.heartbeat(decision, session, message)
        self._commit(turn, decision)
        must_report = session.broker_id in self.partitions.unreported() and self.image.is_alive(
            session.broker_id
        )
        self._reply_to_heartbeat(session, must_report)
        for waiting in self.brokers.may_newly_shut_down():
            self._reply_to_heartbeat(waiting, must_report=False)
        self.telling.bring_up_to_date(session, turn)
        self._sign_of_life(turn)

    def _reply_to_heartbeat(self, session: Session, must_report: bool) -> None:
        """`must_report`: it registers again, in the same epoch, and so tells its log ends."""
        may_shut_down = self.brokers.may_shut_down(session)
        session.was_told_to_stop = may_shut_down
        self._answer(
            session.broker_id,
            bus.HeartbeatReply(
                session.broker_epoch,
                session.nonce,
                is_fenced=not self.image.is_alive(session.broker_id),
                may_shut_down=may_shut_down,
                unknown_epoch=must_report,
            ),
        )

    def _alter_partition(self, event: Received, message: bus.AlterPartition, turn: Turn) -> None:
        session = self.brokers.session(event.source, event.source_epoch, message.broker_epoch)
        error = ErrorCode.NONE
        if self.is_frozen:
            error = ErrorCode.OPERATION_NOT_ATTEMPTED
        if session is None or not self.image.is_alive(event.source):
            error = ErrorCode.STALE_BROKER_EPOCH
        if session is None or error != ErrorCode.NONE:
            self._answer(event.source, bus.PartitionAltered(message.request, [], error))
            return
        if message.request <= session.last_alter:
            return
        session.last_alter = message.request
        decision = self._decide(turn)
        outcomes = self.partitions.alter(decision, event.source, message.changes)
        self._commit(turn, decision)
        self._answer(event.source, bus.PartitionAltered(message.request, outcomes))
        if self.partitions.returned:
            outage_ms = max(map(self.brokers.outage_ms, self.partitions.returned))
            self.partitions.returned.clear()
            self._rebalance_soon(turn, outage_ms)

    def _allocate_producer_ids(
        self, event: Received, message: bus.AllocateProducerIds, turn: Turn
    ) -> None:
        if self.brokers.session(event.source, event.source_epoch, message.broker_epoch) is None:
            stale = bus.ProducerIdBlock(message.request, 0, 0, ErrorCode.STALE_BROKER_EPOCH)
            self._answer(event.source, stale)
            return
        first = self.image.next_producer_id
        decision = self._decide(turn)
        decision.add(r.ProducerIdsAllocated(first + PRODUCER_ID_BLOCK))
        self._commit(turn, decision)
        self._answer(event.source, bus.ProducerIdBlock(message.request, first, PRODUCER_ID_BLOCK))

    def _forward(self, event: Received, message: bus.Forward, turn: Turn) -> None:
        newest = event.source_epoch, message.correlation
        if newest <= self._forwarded.get(event.source, (-1, -1)):
            # A copy must not be carried out again: a topic deleted by it may be another one.
            return
        self._forwarded[event.source] = newest
        if self.is_frozen and message.api_key in (ELECT_LEADERS, ALTER_PARTITION_REASSIGNMENTS):
            # Rule 8: no elections while the cluster goes down.
            refused = bus.Forwarded(message.correlation, ErrorCode.OPERATION_NOT_ATTEMPTED)
            self._answer(event.source, refused)
            return
        decision = self._decide(turn)
        deciding = Deciding(
            decision,
            self.brokers,
            self.partitions,
            self.log,
            self.settings,
            self.random,
            len(self.brokers.expected),
        )
        body = b"".join(event.payload)
        try:
            response = answer(deciding, message.api_key, message.api_version, body)
        except ApiError as error:
            self._answer(event.source, bus.Forwarded(message.correlation, error.code))
            return
        self._commit(turn, decision)
        self._answer(event.source, bus.Forwarded(message.correlation), [response])

    def _log_dir_failed(self, event: Received, message: bus.LogDirFailed, turn: Turn) -> None:
        session = self.brokers.session(event.source, event.source_epoch, message.broker_epoch)
        if session is None or self.is_frozen:
            return
        decision = self._decide(turn)
        self.partitions.log_dir_failed(decision, event.source, message.partitions)
        self._commit(turn, decision)

    def _died(self, message: bus.Died, turn: Turn) -> None:
        if self.is_frozen:
            return
        decision = self._decide(turn)
        self.brokers.died(decision, message.id, message.incarnation)
        self._commit(turn, decision)

    def _announced(self, message: bus.Announce, turn: Turn) -> None:
        if self.is_frozen:
            return
        decision = self._decide(turn)
        self.brokers.announced(decision, message.processes)
        self._commit(turn, decision)
        if any(session.is_confirmed for session in self.brokers.sessions.values()):
            self._sign_of_life(turn)

    # --- time -----------------------------------------------------------------------------------

    def _sign_of_life(self, turn: Turn) -> None:
        """The wait of a start begins with the first broker that is heard of."""
        if not self.partitions.is_starting:
            return
        if self.brokers.all_here():
            self._end_start(turn)
        elif not self._has_start_timer:
            self._has_start_timer = True
            turn.after(START_WAIT_MS, StartTimer())

    def _end_start(self, turn: Turn) -> None:
        if self.partitions.is_starting and not self.is_frozen:
            decision = self._decide(turn)
            self.partitions.started(decision)
            self._commit(turn, decision)

    def _expire(self, turn: Turn) -> None:
        if self.is_frozen:
            return
        decision = self._decide(turn)
        self.brokers.expire(decision)
        self._commit(turn, decision)

    def _arm_session_timer(self, turn: Turn) -> None:
        deadline = self.brokers.next_deadline()
        if deadline is not None and self._session_timer_ms < 0 and not self.is_frozen:
            self._session_timer_ms = deadline
            turn.after(max(deadline - turn.now_ms, 0), SessionTimer())

    def _schedule_rebalance(self, turn: Turn) -> None:
        seconds = self.settings.int("leader.imbalance.check.interval.seconds")
        turn.after(seconds * 1000, RebalanceTimer(True))

    def _rebalance_soon(self, turn: Turn, outage_ms: int) -> None:
        wait_ms = max(LEADERS_RETURN_FACTOR * outage_ms, LEADERS_RETURN_LEAST_MS)
        wait_ms = min(wait_ms, LEADERS_RETURN_MOST_MS)
        due_ms = turn.now_ms + wait_ms
        if self._rebalance_ms is None:
            turn.after(wait_ms, RebalanceTimer(False))
        self._rebalance_ms = max(due_ms, self._rebalance_ms or due_ms)

    def _rebalance(self, turn: Turn, is_periodic: bool) -> None:
        if is_periodic:
            self._schedule_rebalance(turn)
        elif self._rebalance_ms is not None and turn.now_ms < self._rebalance_ms:
            # Another one has come back since.
            turn.after(self._rebalance_ms - turn.now_ms, RebalanceTimer(False))
            return
        else:
            self._rebalance_ms = None
        if self.is_frozen or not self.settings.bool("auto.leader.rebalance.enable"):
            return
        decision = self._decide(turn)
        self.partitions.rebalance(decision, coordinators_too=is_periodic)
        self._commit(turn, decision)
