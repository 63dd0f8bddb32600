"""Every partition's leader and ISR: what a broker's life and a leader's wish do to them.

    fenced            out of the ISRs (into the ELR below min ISR), its leaderships elected anew
    lossy restart     out of ISR and ELR: it holds no place until it has caught up (invariant 11)
    unfenced          leaderless partitions are looked at again
    shutting down     leaderships move first, then it leaves the ISRs (KIP-67)
    log dir failed    as fenced, for the partitions named
    AlterPartition    compare-and-set by the leader (KIP-497, KIP-841, KIP-903)
    rebalance         preferred leaders that are in sync lead again
    reassign          replicas come and go (KIP-455); each step completes what can be completed

The rules of one step are in `election.py`; here is which partitions take it, and with what. All
is a scan in the order of topic names: a cluster of ours has at most thousands of partitions,
and an index by broker would be state to keep true.

Start (rule 8): until the living have registered nobody is elected. A broker that comes back
then with its log whole (restart clean or crash) resigns what it led but keeps its ISR places,
because its log still holds all that it ever acknowledged; those who do not come leave the ISRs
together at the end of the start, so that all of them are eligible, not only the last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from kcluster.config import Settings
from kcluster.core.controller.decision import Decision
from kcluster.core.controller.election import Outcome, Rules, next_state
from kcluster.core.controller.reassignment import Assignment
from kcluster.core.metadata.image import TOPIC_RESOURCE, ClusterImage, TopicImage
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.traces import (
    Elected,
    IsrExpanded,
    IsrRefused,
    IsrShrunk,
    ReassignmentCancelled,
    ReassignmentCompleted,
    ReassignmentStarted,
    Warned,
)
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import NO_LEADER, OFFSETS_TOPIC, TopicPartition
from kcluster.wire.bus import IsrChange, IsrOutcome, LogEnd

PartitionKey = tuple[bytes, int]
"""(topic id, partition)."""


class Partitions:
    def __init__(self, image: ClusterImage, settings: Settings) -> None:
        self.image = image
        self.settings = settings
        self.is_starting = True
        """No elections yet; whoever leaves keeps its ISR place until the end of the start."""
        self._offline: dict[int, set[PartitionKey]] = {}
        """Partitions whose log failed, by broker; until its next registration."""
        self._reports: dict[int, dict[PartitionKey, tuple[int, int]]] = {}
        """(last epoch, log end) of the logs of brokers, as told when they registered."""
        self._damaged: dict[int, set[PartitionKey]] = {}
        """Those of them that lack what they had promised."""
        self.awaited: Callable[[int], bool] = lambda _: False
        """Whether a broker is on its way back, so that the last resort waits for it."""
        self._lost = {_key(state) for _, state in self._states() if _has_lost_all(state)}
        """Partitions that only the last resort can help; may hold some that are fine again."""
        self.returned: set[int] = set()
        """Preferred leaders that came back into an ISR; whoever acts on it empties it."""

    # --- facts ----------------------------------------------------------------------------

    def registered(self, broker_id: int, logs: Iterable[LogEnd]) -> None:
        """A new incarnation: its logs are online again, and these are their ends."""
        self._offline.pop(broker_id, None)
        self.reported(broker_id, logs)

    def reported(self, broker_id: int, logs: Iterable[LogEnd]) -> None:
        logs = [log for log in logs if not self._is_misplaced(log)]
        self._damaged[broker_id] = {(log.topic_id, log.partition) for log in logs if log.is_damaged}
        self._reports[broker_id] = {
            (log.topic_id, log.partition): (log.last_epoch, log.log_end_offset) for log in logs
        }

    def _is_misplaced(self, log: LogEnd) -> bool:
        topic = self.image.topic_by_id(log.topic_id)
        return topic is not None and log.topic not in ("", topic.name)

    def gone(self, broker_id: int) -> None:
        """What it reported says nothing any more."""
        self._reports.pop(broker_id, None)

    def min_isr(self, topic: TopicImage) -> int:
        """min.insync.replicas, which may be more than there are replicas."""
        return int(self.settings.topic_text("min.insync.replicas", self._overrides(topic)))

    def allows_unclean(self, topic: TopicImage) -> bool:
        overrides = self._overrides(topic)
        text = self.settings.topic_text("unclean.leader.election.enable", overrides)
        return text.lower() == "true"

    def can_lead(self, broker_id: int, key: PartitionKey) -> bool:
        broker = self.image.brokers.get(broker_id)
        return (
            broker is not None
            and not broker.is_fenced
            and not broker.is_shutting_down
            and key not in self._offline.get(broker_id, ())
        )

    def unreported(self) -> set[int]:
        """Brokers whose log ends a last resort needs and nobody knows."""
        unreported: set[int] = set()
        for topic_id, partition in sorted(self._lost):
            topic = self.image.topic_by_id(topic_id)
            state = topic.partitions.get(partition) if topic is not None else None
            if state is None or not _has_lost_all(state):
                self._lost.discard((topic_id, partition))
            else:
                unreported.update(id for id in state.replicas if id not in self._reports)
        return unreported

    # --- a broker's life ------------------------------------------------------------------

    def fenced(self, decision: Decision, brokers: Collection[int], cause: str) -> None:
        """`brokers` are fenced in the image. They leave what they led and, unless the cluster
        is starting, the ISRs: all of them in one step."""
        for topic, state in self._states():
            if self.is_starting:
                if state.leader in brokers:
                    self._step(decision, topic, state, state.isr, cause, resigned=state.leader)
            elif state.leader == NO_LEADER or any(id in brokers for id in state.isr):
                # A last resort may have waited for one that is gone now, fenced before or not.
                isr = [id for id in state.isr if id not in brokers]
                self._step(decision, topic, state, isr, cause)

    def lost_data(self, decision: Decision, broker_id: int, *, is_all: bool) -> None:
        """KIP-966: a lossy restart costs the trust of a replica, whatever it held before; without
        one, those that it reports as damaged, or does not have any more, are not trusted."""
        sound = set() if is_all else self._reports[broker_id].keys() - self._damaged[broker_id]
        for topic, state in self._states():
            if broker_id in (*state.isr, *state.elr) and _key(state) not in sound:
                self._step(decision, topic, state, state.isr, "lossy", untrusted=(broker_id,))

    def started(self, decision: Decision) -> None:
        """The end of the start: who has not come back leaves the ISRs, and leaders are elected."""
        self.is_starting = False
        for topic, state in self._states():
            isr = [id for id in state.isr if self.image.is_alive(id)]
            if len(isr) < len(state.isr) or state.leader == NO_LEADER or state.is_reassigning:
                self._step(decision, topic, state, isr, "did not come back")

    def elect(self, decision: Decision, topic_id: bytes | None = None) -> None:
        """Leaders for the partitions that have none, of one topic or of all; and for those whose
        reassignment has waited for one."""
        if self.is_starting:
            return
        for topic, state in self._states():
            is_meant = state.leader == NO_LEADER or state.is_reassigning
            if is_meant and topic_id in (None, topic.id):
                self._step(decision, topic, state, state.isr, "somebody can lead again")

    def move_away(self, decision: Decision, broker_id: int) -> None:
        """Controlled shutdown: it leads nothing and is in no ISR any more, wherever another
        member can lead; where none can, it stays until it is fenced."""
        if self.is_starting:
            return
        for topic, state in self._states():
            others = [id for id in state.isr if id != broker_id]
            if len(others) == len(state.isr) or not any(
                self.can_lead(id, (topic.id, state.partition)) for id in others
            ):
                continue
            self._step(decision, topic, state, others, "shutting down")

    def log_dir_failed(
        self, decision: Decision, broker_id: int, partitions: Iterable[PartitionKey]
    ) -> None:
        failed = set(partitions)
        self._offline.setdefault(broker_id, set()).update(failed)
        for topic, state in self._states():
            if (topic.id, state.partition) in failed:
                isr = [id for id in state.isr if id != broker_id]
                self._step(decision, topic, state, isr, "log dir failed")

    def configs_changed(self, decision: Decision, topics: Collection[str] | None) -> None:
        """min.insync.replicas or unclean.leader.election.enable may be others now, of these
        topics or (None) of all: clears ELRs that hold no longer, elects where it may."""
        for topic, state in self._states():
            if topics is None or topic.name in topics:
                self._step(decision, topic, state, state.isr, "config")

    def rebalance(self, decision: Decision, *, coordinators_too: bool) -> None:
        """Have preferred leaders lead. Coordinators of groups are not to move often: a member by
        librdkafka that asks for its offsets at that moment stands still until the group
        rebalances again."""
        if self.is_starting:
            return
        for topic, state in self._states():
            if topic.name == OFFSETS_TOPIC and not coordinators_too:
                continue
            preferred = state.replicas[0]
            if state.leader not in (preferred, NO_LEADER) and preferred in state.isr:
                self._step(decision, topic, state, state.isr, "rebalance", preferred=preferred)

    def elect_one(
        self, decision: Decision, topic_name: str, partition: int, *, is_unclean: bool
    ) -> None:
        """An election that somebody asks for. Raises ApiError when it is not needed, or when
        nobody can be elected."""
        topic = self.image.topics.get(topic_name)
        state = topic.partitions.get(partition) if topic is not None else None
        if topic is None or state is None:
            raise ApiError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"There is no partition {TopicPartition(topic_name, partition)}.",
            )
        preferred = NO_LEADER if is_unclean else state.replicas[0]
        if state.leader != NO_LEADER and (is_unclean or state.leader == preferred):
            raise ApiError(
                ErrorCode.ELECTION_NOT_NEEDED, f"Broker {state.leader} leads it already."
            )
        if not self.is_starting:
            self._step(
                decision,
                topic,
                state,
                state.isr,
                "asked for",
                preferred=preferred,
                is_unclean=is_unclean,
            )
        leader = topic.partitions[partition].leader
        if is_unclean and leader == NO_LEADER:
            raise ApiError(
                ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, "None of its replicas can lead it."
            )
        if not is_unclean and leader != preferred:
            raise ApiError(
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
                f"Broker {preferred} is not in sync, or cannot lead.",
            )

    def reassign(
        self,
        decision: Decision,
        topic: TopicImage,
        state: PartitionChanged,
        assignment: Assignment,
    ) -> None:
        """From now on it has the replicas of `assignment`. Whoever is no replica any more is in
        no ISR either."""
        self._step(decision, topic, state, state.isr, "reassigned", assignment=assignment)

    # --- a leader's wish ------------------------------------------------------------------

    def alter(
        self, decision: Decision, broker_id: int, changes: Iterable[IsrChange]
    ) -> list[IsrOutcome]:
        """ISRs as leaders want them, each granted or refused on its own. The broker epoch of
        the sender has been checked."""
        return [self._alter_one(decision, broker_id, change) for change in changes]

    def _alter_one(self, decision: Decision, broker_id: int, change: IsrChange) -> IsrOutcome:
        topic = self.image.topic_by_id(change.topic_id)
        state = topic.partitions.get(change.partition) if topic is not None else None
        if topic is None or state is None:
            code = (
                ErrorCode.UNKNOWN_TOPIC_ID
                if topic is None
                else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
            return IsrOutcome(change.topic_id, change.partition, code)
        error = self._refusal(state, broker_id, change)
        if error != ErrorCode.NONE:
            decision.trace(IsrRefused(topic.name, change.partition, error.name))
        elif change.isr != state.isr:
            self._step(decision, topic, state, change.isr, "lag", leader_min_isr=change.min_isr)
            state = topic.partitions[change.partition]
            if state.leader != broker_id:
                error = ErrorCode.NEW_LEADER_ELECTED
            elif state.leader != state.replicas[0] and state.replicas[0] in state.isr:
                self.returned.add(state.replicas[0])
        # A refusal tells the leader what holds, so that it need not wait for the delta.
        return IsrOutcome(
            topic.id, state.partition, error, state.leader_epoch, state.partition_epoch, state.isr
        )

    def _refusal(self, state: PartitionChanged, broker_id: int, change: IsrChange) -> ErrorCode:
        """In Kafka's order. Compare-and-set on both epochs comes before what is asked for."""
        if (
            change.leader_epoch > state.leader_epoch
            or change.partition_epoch > state.partition_epoch
        ):
            # It heard of it from another controller: the metadata log must have been lost.
            return ErrorCode.NOT_CONTROLLER
        if change.leader_epoch < state.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if state.leader != broker_id:
            return ErrorCode.INVALID_REQUEST
        if change.partition_epoch < state.partition_epoch:
            return ErrorCode.INVALID_UPDATE_VERSION
        members = change.isr
        if (
            len(set(members)) != len(members)
            or len(change.isr_broker_epochs) != len(members)
            or not set(members) <= set(state.replicas)
            or broker_id not in members
        ):
            return ErrorCode.INVALID_REQUEST
        for id, broker_epoch in zip(members, change.isr_broker_epochs, strict=True):
            if not self._may_be_in_sync(state, id, broker_epoch):
                return ErrorCode.INELIGIBLE_REPLICA
        return ErrorCode.NONE

    def _may_be_in_sync(self, state: PartitionChanged, id: int, broker_epoch: int) -> bool:
        """KIP-841: not fenced, not on its way out (who is in may stay while it goes);
        KIP-903: the incarnation that the leader saw catch up, not a later one."""
        broker = self.image.brokers.get(id)
        return (
            broker is not None
            and not broker.is_fenced
            and broker.broker_epoch == broker_epoch
            and (not broker.is_shutting_down or id in state.isr)
            and (state.topic_id, state.partition) not in self._offline.get(id, ())
        )

    # --- one step -------------------------------------------------------------------------

    def _states(self) -> Iterator[tuple[TopicImage, PartitionChanged]]:
        """All partitions by topic name and index; the states may change meanwhile."""
        for _, topic in sorted(self.image.topics.items()):
            for _, state in sorted(topic.partitions.items()):
                yield topic, state

    def _overrides(self, topic: TopicImage) -> dict[str, str]:
        return self.image.overrides(TOPIC_RESOURCE, topic.name)

    def _rules(
        self,
        topic: TopicImage,
        state: PartitionChanged,
        *,
        is_unclean: bool,
        leader_min_isr: int | None,
    ) -> Rules:
        key = (topic.id, state.partition)
        min_isr = self.min_isr(topic)
        if leader_min_isr is not None:
            # Nobody is eligible without whom the high watermark moves.
            min_isr = min(min_isr, leader_min_isr)
        return Rules(
            min_isr=min_isr,
            allows_unclean=is_unclean or self.allows_unclean(topic),
            can_lead=lambda broker_id: self.can_lead(broker_id, key),
            last_resort=lambda distrusted: self._last_resort(topic, state, distrusted),
            elects=not self.is_starting,
        )

    def _step(
        self,
        decision: Decision,
        topic: TopicImage,
        state: PartitionChanged,
        isr: Collection[int],
        cause: str,
        *,
        untrusted: Collection[int] = (),
        resigned: int = NO_LEADER,
        preferred: int = NO_LEADER,
        is_unclean: bool = False,
        leader_min_isr: int | None = None,
        assignment: Assignment | None = None,
    ) -> None:
        outcome = next_state(
            state,
            isr,
            self._rules(topic, state, is_unclean=is_unclean, leader_min_isr=leader_min_isr),
            untrusted=untrusted,
            resigned=resigned,
            preferred=preferred,
            assignment=assignment,
        )
        if outcome is not None:
            decision.add(outcome.state)
            for id in set(state.replicas).difference(outcome.state.replicas):
                self._moved_away(id, _key(state))
            if _has_lost_all(outcome.state):
                self._lost.add(_key(outcome.state))
            _trace(decision, topic, state, outcome, cause)

    def _moved_away(self, broker_id: int, key: PartitionKey) -> None:
        """What was known of its log says nothing of the one that it makes should it come again."""
        self._offline.get(broker_id, set()).discard(key)
        self._damaged.get(broker_id, set()).discard(key)
        self._reports.get(broker_id, {}).pop(key, None)

    def _last_resort(
        self, topic: TopicImage, state: PartitionChanged, distrusted: Collection[int]
    ) -> int:
        """Of replicas that all lost data, the one with the most: highest (epoch, log end), ties
        in the order of the assignment; after all others one that claims an epoch that never was,
        which a flipped bit may do. A log that ends somewhere and knows no epoch is empty, and
        lost its epochs with a file: it gets the benefit of the doubt, and its end counts.
        With flush.messages=1 no power cut takes what was promised, and one of those in sync leads:
        a higher epoch may be of a leader that committed none of it, if the next wrote nothing.

        Nobody leads before all who lost their trust, and all others who live or are on their way,
        have said what they hold; nor before the one with the most, while that is on its way."""
        key = (state.topic_id, state.partition)
        for id in state.replicas:
            has_reported = id in self._reports
            if id in distrusted and not (has_reported and self.can_lead(id, key)):
                return NO_LEADER
            if not has_reported and (self.image.is_alive(id) or self.awaited(id)):
                return NO_LEADER
        ends = {
            id: self._reports[id].get(key, (-1, 0))
            for id in state.replicas
            if id in self._reports and self._may_lead(id, key)
        }
        if not ends:
            return NO_LEADER
        flush = self.settings.topic_text("flush.messages", self._overrides(topic))
        if int(flush) == 1 and not state.recovering:
            whole = [id for id in distrusted if key not in self._damaged.get(id, ())]
            ends = {id: ends[id] for id in whole if id in ends} or ends
        able = {id for id in ends if self.can_lead(id, key)}
        last = max((epoch for epoch, _ in ends.values() if epoch <= state.leader_epoch), default=-1)

        def rank(id: int) -> tuple[bool, int, int, bool]:
            epoch, end = ends[id]
            if epoch < 0 < end:
                epoch = last
            return epoch <= state.leader_epoch, epoch, end, id in able

        best = max(ends, key=rank)
        return best if best in able else NO_LEADER

    def _may_lead(self, broker_id: int, key: PartitionKey) -> bool:
        """It can lead, or will when it is unfenced."""
        return self.can_lead(broker_id, key) or (
            self.awaited(broker_id) and key not in self._offline.get(broker_id, ())
        )


def _key(state: PartitionChanged) -> PartitionKey:
    return state.topic_id, state.partition


def _has_lost_all(state: PartitionChanged) -> bool:
    return state.leader == NO_LEADER and not state.isr and not state.elr


def _trace(
    decision: Decision, topic: TopicImage, before: PartitionChanged, outcome: Outcome, cause: str
) -> None:
    after = outcome.state
    _trace_reassignment(decision, topic, before, outcome)
    if outcome.has_completed:
        cause = "reassigned"
    if not set(before.isr) <= set(after.isr):
        decision.trace(IsrShrunk(topic.name, after.partition, before.isr, after.isr, cause))
    elif len(after.isr) > len(before.isr):
        decision.trace(IsrExpanded(topic.name, after.partition, before.isr, after.isr))
    if outcome.elected_from:
        decision.trace(
            Elected(
                topic.name,
                after.partition,
                before.leader,
                after.leader,
                after.leader_epoch,
                outcome.elected_from,
                cause,
            )
        )
    if after.recovering and outcome.elected_from in ("unclean", "lossy"):
        tp = TopicPartition(topic.name, after.partition)
        decision.trace(Warned(f"{tp}: broker {after.leader} leads although records may be missing"))


def _trace_reassignment(
    decision: Decision, topic: TopicImage, before: PartitionChanged, outcome: Outcome
) -> None:
    after = outcome.state
    place = topic.name, after.partition
    if outcome.has_completed:
        gone = sorted({*before.replicas} - {*after.replicas})
        decision.trace(
            ReassignmentCompleted(*place, after.replicas, gone, after.leader, after.leader_epoch)
        )
    elif after.is_reassigning and (before.target != after.target or not before.is_reassigning):
        decision.trace(
            ReassignmentStarted(*place, before.replicas, after.target, after.adding, after.removing)
        )
    elif before.is_reassigning and not after.is_reassigning:
        decision.trace(
            ReassignmentCancelled(
                *place, after.replicas, before.adding, after.leader, after.leader_epoch
            )
        )
