"""Bugs of the controller and of the metadata log, put back: ISRs, elections, what is durable."""

from __future__ import annotations

from typing import Any

import msgspec

from kcluster.core.broker.replicas import Replicas
from kcluster.core.controller import reassignment
from kcluster.core.controller.brokers import Brokers
from kcluster.core.controller.partitions import Partitions
from kcluster.core.controller.reassignment import Assignment
from kcluster.core.controller.telling import Held, Telling
from kcluster.core.metadata.metadata_log import MetadataLog
from kcluster.core.replication.replica import Replica
from kcluster.core.turn import Delete, Synced
from kcluster.sim.mutant import Mutant, Patch, always, by_name, patch
from kcluster.wire import bus


def _takes_any_epoch(was: Any) -> Any:
    def refusal(self: Any, state: Any, broker_id: int, change: Any) -> Any:
        change = msgspec.structs.replace(
            change, leader_epoch=state.leader_epoch, partition_epoch=state.partition_epoch
        )
        return was(self, state, broker_id, change)

    return refusal


def _takes_the_fenced(was: Any) -> Any:
    def may_be_in_sync(self: Any, state: Any, id: int, broker_epoch: int) -> Any:
        broker = self.image.brokers.get(id)
        return broker is not None and broker.broker_epoch == broker_epoch

    return may_be_in_sync


def _takes_any_broker_epoch(was: Any) -> Any:
    def may_be_in_sync(self: Any, state: Any, id: int, broker_epoch: int) -> Any:
        broker = self.image.brokers.get(id)
        return was(self, state, id, broker.broker_epoch if broker is not None else -1)

    return may_be_in_sync


def _elects_anybody(was: Any) -> Any:
    return lambda self, topic, state, **options: was(
        self, topic, state, **(options | {"is_unclean": True})
    )


def _keeps_its_epochs(was: Any) -> Any:
    def fence(self: Any, decision: Any, brokers: Any, cause: str) -> Any:
        if cause != "new incarnation":
            was(self, decision, brokers, cause)

    return fence


def _leads_again(was: Any) -> Any:
    def lead(self: Any, turn: Any, me: int, state: Any) -> Any:
        latest = self.log.epochs
        if latest.latest == state.leader_epoch:
            latest.epochs.pop()
            latest.starts.pop()
        return was(self, turn, me, state)

    return lead


def _takes_a_death_for_any(was: Any) -> Any:
    return lambda self, decision, broker_id, _: was(self, decision, broker_id, 1 << 60)


def _answers_at_once(was: Any) -> Any:
    def answer(self: Any, target: int, message: Any, payload: Any) -> Any:
        if isinstance(message, bus.Registered | bus.Forwarded):
            return was(self, target, message, payload)
        self.held.appendleft(Held(0, target, message, payload))
        return None

    return answer


def _applies_what_is_written(was: Any) -> Any:
    def settle(self: Any, turn: Any) -> Any:
        before = self._syncs_under_way
        was(self, turn)
        for _ in range(self._syncs_under_way - before):
            self.synced(turn, Synced("", 0))
        self._syncs_under_way = 0

    return settle


def _hears_no_sync(was: Any) -> Any:
    return lambda self, turn, event: was(self, turn, event) if not event.path else None


def _spreads_nothing(was: Any) -> Any:
    def release_spread(self: Any, turn: Any) -> Any:
        while self._spreading:
            held = self._spreading.popleft().held
            turn.send(held.target, held.message, held.payload)

    return release_spread


def _deletes_what_it_does_not_know(was: Any) -> Any:
    def set_aside(self: Any, turn: Any, directory: str, cause: str) -> Any:
        turn.disk.append(Delete(self._move(turn, directory, "delete")))

    return set_aside


def _completes_at_once(was: Any) -> Any:
    def completed(assignment: Any, isr: Any, min_isr: int) -> Any:
        if not (assignment.adding or assignment.removing):
            return None
        return Assignment(assignment.target, [], []), assignment.target

    return completed


def _takes_what_was_meant_for_the_dead(was: Any) -> Any:
    return lambda envelope, address, *_: envelope.target == address


CONTROLLER_MUTANTS = by_name(
    Mutant(
        "changes-without-compare-and-set",
        "the controller grants an ISR that was asked for in an older epoch",
        "9", ("KIP-497", "KAFKA-8836"), patch(Partitions, "_refusal", _takes_any_epoch),
    ),
    Mutant(
        "fenced-replica-joins",
        "the controller lets a fenced replica into an ISR",
        "9, 10", ("KAFKA-13916",), patch(Partitions, "_may_be_in_sync", _takes_the_fenced),
    ),
    Mutant(
        "stale-broker-epoch-joins",
        "the controller does not compare the broker epochs of those who are to be in an ISR",
        "10", ("KIP-903", "KAFKA-14617"),
        patch(Partitions, "_may_be_in_sync", _takes_any_broker_epoch),
    ),
    Mutant(
        "takes-messages-of-the-dead",
        "a process takes what was meant for its predecessor, or comes from one that has ended",
        "10", ("KIP-380", "KAFKA-7235"),
        patch(bus, "accepts", _takes_what_was_meant_for_the_dead),
    ),
    Mutant(
        "lossy-restart-keeps-trust",
        "a replica that came back from a power loss keeps its place in ISR and ELR",
        "11", ("KIP-966",), patch(Partitions, "lost_data", always(None)),
    ),
    Mutant(
        "unclean-election",
        "a replica that is neither in the ISR nor in the ELR is elected where that is not allowed",
        "12", (), patch(Partitions, "_rules", _elects_anybody),
    ),
    Mutant(
        "restart-keeps-its-epoch",
        "a broker that restarts goes on in the leader epochs that its predecessor had",
        "13, rule 6", (),
        (Patch(Brokers, "fence", _keeps_its_epochs), Patch(Replica, "_lead", _leads_again)),
    ),
    Mutant(
        "death-names-a-broker",
        "the news that an incarnation has died is taken for that of its successor",
        "rule 6", (), patch(Brokers, "died", _takes_a_death_for_any),
    ),
    Mutant(
        "answers-before-the-sync",
        "the controller answers before its decision is durable",
        "17, rule 7", (), patch(Telling, "answer", _answers_at_once),
    ),
    Mutant(
        "applies-before-the-sync",
        "the metadata log counts as committed what is written and not synced",
        "17", ("KAFKA-10533",),
        (
            Patch(MetadataLog, "settle", _applies_what_is_written),
            Patch(MetadataLog, "synced", _hears_no_sync),
        ),
    ),
    Mutant(
        "deletes-what-it-does-not-know",
        "a partition on disk that the metadata does not know is deleted",
        "17", ("NATS #7556",), patch(Replicas, "_set_aside", _deletes_what_it_does_not_know),
    ),
    Mutant(
        "completes-before-in-sync",
        "replicas that a reassignment adds count as in sync at once, and it is complete",
        "1, 2, 10", (), patch(reassignment, "completed", _completes_at_once),
    ),
    Mutant(
        "stops-as-leader",
        "a broker that wants to stop is let go before its leaderships have moved",
        "rule 8", (), patch(Partitions, "move_away", always(None)),
    ),
    Mutant(
        "creates-before-all-know",
        "CreateTopics is answered before the brokers have applied it",
        "rule 10", (), patch(Telling, "_release_spread", _spreads_nothing),
    ),
)  # fmt: skip
