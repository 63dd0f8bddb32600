"""Bugs of leaders and followers, put back: positions, truncation, the high watermark, streams."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from kcluster.core.broker.checkpoints import Checkpoints
from kcluster.core.broker.roles import Roles
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.partition_log import PartitionLog
from kcluster.core.log.recovery import Recovery
from kcluster.core.replication.follower import Incoming
from kcluster.core.replication.leader import LeaderState
from kcluster.core.replication.replica import Replica
from kcluster.core.replication.streams import Outgoing
from kcluster.errors import ErrorCode
from kcluster.sim.mutant import Mutant, Patch, always, always_property, by_name, patch


def _truncates_to_own_high_watermark(was: Any) -> Any:
    def follow(self: Any, turn: Any, state: Any, incoming: Any) -> Any:
        if self.log.high_watermark < self.log.log_end_offset:
            self.log.truncate_to(turn, max(self.log.high_watermark, self.log.log_start_offset))
        return was(self, turn, state, incoming)

    return follow


def _restarts_at_the_high_watermark(was: Any) -> Any:
    def restore(self: Any, turn: Any, log: Any, restart: Any, **options: Any) -> Any:
        was(self, turn, log, restart, **options)
        log.truncate_to(turn, max(log.high_watermark, log.log_start_offset))

    return restore


def _believes_a_checkpoint_beyond_the_end(was: Any) -> Any:
    def restore(self: Any, turn: Any, log: Any, restart: Any, **options: Any) -> Any:
        told = self._told("replication-offset-checkpoint", log.tp)
        was(self, turn, log, restart, **options)
        log.high_watermark = max(told, log.high_watermark)

    return restore


def _claims_the_epoch_that_was_asked_for(was: Any) -> Any:
    def end_offset_for(self: Any, epoch: int, log_end_offset: int) -> Any:
        found, end_offset = was(self, epoch, log_end_offset)
        return (epoch, end_offset) if found >= 0 else (found, end_offset)

    return end_offset_for


def _shrinks_at_once(was: Any) -> Any:
    def propose(self: Any, isr: Any, *rest: Any) -> Any:
        out = was(self, isr, *rest)
        self._maximal = frozenset(isr)
        return out

    return propose


_LOOKED_AT: dict[Any, Any] = {}
"""By leader state: positions at which the high watermark was last looked at."""


def _looks_only_when_positions_move(was: Any) -> Any:
    _LOOKED_AT.clear()

    def advance(self: Any, *rest: Any) -> Any:
        ends = self.position, *(follower.log_end for follower in self.followers.values())
        if _LOOKED_AT.get(self) == ends:
            return False
        _LOOKED_AT[self] = ends
        return was(self, *rest)

    return advance


def _lets_it_fall(was: Any) -> Any:
    def advance(self: Any, *rest: Any) -> Any:
        before, self.high_watermark = self.high_watermark, 0
        if not was(self, *rest):
            self.high_watermark = before
        return self.high_watermark != before

    return advance


def _joins_with_the_high_watermark(was: Any) -> Any:
    def may_join(self: Any, follower: Any) -> Any:
        return follower.stream is not None and follower.log_end >= self.high_watermark

    return may_join


def _counts_who_diverges(was: Any) -> Any:
    def open_stream(self: Any, source: int, inc: int, entry: Any, replica: Any, turn: Any) -> Any:
        was(self, source, inc, entry, replica, turn)
        leader = replica.leader
        follower = leader.followers[source]
        if follower.stream is None and follower.newest_stream == (inc, entry.stream):
            follower.incarnation = inc
            position = min(entry.log_end_offset, leader.position)
            follower.moved(position, leader.position, turn.now_ms)

    return open_stream


def _opens_in_any_epoch(was: Any) -> Any:
    def open_stream(self: Any, source: int, incarnation: int, entry: Any, turn: Any) -> Any:
        name = self._broker.image.topic_names.get(entry.topic_id)
        replica = self._broker.replicas.get((name, entry.partition))
        if replica is not None and entry.leader_epoch < replica.leader_epoch:
            entry = msgspec.structs.replace(entry, leader_epoch=replica.leader_epoch)
        return was(self, source, incarnation, entry, turn)

    return open_stream


def _remembers_who_opens(was: Any) -> Any:
    def open_stream(self: Any, source: int, incarnation: int, *rest: Any) -> Any:
        self._opener = source, incarnation
        return was(self, source, incarnation, *rest)

    return open_stream


def _asks_once(was: Any) -> Any:
    def divergence(self: Any, replica: Any, entry: Any) -> Any:
        agreed = self.__dict__.setdefault("_agreed", set())
        key = replica.topic_id, replica.tp, self._opener
        is_within = replica.log.log_start_offset <= entry.log_end_offset <= replica.log.written_end
        if key in agreed and is_within:
            return None
        found = was(self, replica, entry)
        if found is None:
            agreed.add(key)
        return found

    return divergence


def _states_the_latest_epoch(was: Any) -> Any:
    def send_opens(self: Any, turn: Any) -> Any:
        logs = [replica.log for replica in self._to_open]
        before = [log.last_epoch for log in logs]
        for log in logs:
            log.last_epoch = log.epochs.latest
        was(self, turn)
        for log, epoch in zip(logs, before, strict=True):
            log.last_epoch = epoch

    return send_opens


def _forgets_epoch_0(was: Any) -> Any:
    def finish_epochs(self: Any) -> Any:
        if self.restart != "clean" and self.epochs.epochs[:1] == [0]:
            del self.epochs.epochs[0], self.epochs.starts[0]
        return was(self)

    return finish_epochs


def _numbers_streams_by_partition(was: Any) -> Any:
    def send_opens(self: Any, turn: Any) -> Any:
        to_open = self._to_open
        for replica in list(to_open):
            self._to_open = {replica: None}
            self._next_stream = zlib.crc32(str(replica.tp).encode())
            was(self, turn)
            to_open = {**to_open, **self._to_open} if self._to_open else to_open
            if not self._to_open:
                to_open.pop(replica, None)
        self._to_open = to_open

    return send_opens


def _takes_an_old_number(was: Any) -> Any:
    def open_stream(self: Any, source: int, inc: int, entry: Any, replica: Any, turn: Any) -> Any:
        replica.leader.followers[source].newest_stream = (0, 0)
        return was(self, source, inc, entry, replica, turn)

    return open_stream


def _keeps_the_high_watermark_below(was: Any) -> Any:
    def truncate_towards(self: Any, turn: Any, *arguments: Any) -> Any:
        before = self.log.high_watermark
        changed = was(self, turn, *arguments)
        self.log.high_watermark = min(before, self.log.log_end_offset)
        return changed

    return truncate_towards


def _answers_as(error: ErrorCode, other: ErrorCode) -> Any:
    """A leader takes one error for another."""

    def change(was: Any) -> Any:
        def decided(self: Any, proposal: Any, outcome: Any, now_ms: int) -> Any:
            if outcome.error == error:
                outcome = msgspec.structs.replace(outcome, error=other)
            return was(self, proposal, outcome, now_ms)

        return decided

    return change


def _counts_what_is_written(was: Any) -> Any:
    return property(lambda self: self.log.written_end)


REPLICATION_MUTANTS = by_name(
    Mutant(
        "truncates-to-high-watermark",
        "a follower truncates to its own high watermark before it asks the leader",
        "1, 8", ("KIP-101",), patch(Replica, "_follow", _truncates_to_own_high_watermark),
    ),
    Mutant(
        "restarts-at-high-watermark",
        "a broker that restarts keeps no more than its checkpointed high watermark",
        "1, 8", ("KAFKA-1211",), patch(Checkpoints, "restore", _restarts_at_the_high_watermark),
    ),
    Mutant(
        "joins-below-epoch-start",
        "a follower joins the ISR at a new leader's high watermark, which lags behind the true one",
        "2", ("KAFKA-7128",), patch(LeaderState, "may_join", _joins_with_the_high_watermark),
    ),
    Mutant(
        "truncates-without-dialogue",
        "a leader answers with the epoch that it was asked for, also when it has none of it",
        "3, rule 2", ("KAFKA-6361", "KIP-279"),
        patch(LeaderEpochs, "end_offset_for", _claims_the_epoch_that_was_asked_for),
    ),
    Mutant(
        "shrinks-at-once",
        "who is proposed to leave the ISR is no longer waited for, before that is granted",
        "4", (), patch(LeaderState, "_propose", _shrinks_at_once),
    ),
    Mutant(
        "isr-change-moves-nothing",
        "the high watermark is not looked at again when the ISR has changed",
        "4", ("KAFKA-13091",), patch(LeaderState, "advance", _looks_only_when_positions_move),
    ),
    Mutant(
        "high-watermark-falls",
        "the high watermark follows the lowest position down",
        "5", (), patch(LeaderState, "advance", _lets_it_fall),
    ),
    Mutant(
        "checkpoint-beyond-the-end",
        "a high watermark from the checkpoint is believed beyond the end of the log",
        "5", ("KAFKA-3978",), patch(Checkpoints, "restore", _believes_a_checkpoint_beyond_the_end),
    ),
    Mutant(
        "high-watermark-below-the-start",
        "a follower that starts afresh at its leader's log start keeps a high watermark below that",
        "5", ("KAFKA-9491",),
        patch(Replica, "truncate_towards", _keeps_the_high_watermark_below),
    ),
    Mutant(
        "commits-below-min-isr",
        "the high watermark moves with an ISR smaller than min.insync.replicas",
        "6, rule 12", ("KAFKA-15583",),
        patch(LeaderState, "has_enough_replicas", always_property(True)),
    ),
    Mutant(
        "opens-in-any-epoch",
        "a leader lets a follower in that follows it in an older epoch",
        "7", ("KIP-320", "KAFKA-7395"), patch(Roles, "_open", _opens_in_any_epoch),
    ),
    Mutant(
        "asks-once-where-to-truncate",
        "a follower that agreed with this leader once is not asked again in a later epoch",
        "7", ("KAFKA-7164",),
        (
            Patch(Outgoing, "open", _remembers_who_opens),
            Patch(Outgoing, "_divergence", _asks_once),
        ),
    ),
    Mutant(
        "counts-who-diverges",
        "a leader counts the position of a follower that is to truncate first",
        "7", ("KAFKA-13141",), patch(Outgoing, "open", _counts_who_diverges),
    ),
    Mutant(
        "forgets-empty-epochs",
        "an epoch in which nothing was written is not in the epoch cache",
        "8", ("KAFKA-7415",), patch(PartitionLog, "assign_epoch", always(None)),
    ),
    Mutant(
        "states-empty-epochs",
        "a follower states an epoch without records, which no truncation takes away",
        "8", ("KAFKA-10706",), patch(Incoming, "_send_opens", _states_the_latest_epoch),
    ),
    Mutant(
        "forgets-epoch-0",
        "recovery does not put epoch 0 into the epoch cache",
        "8", ("KAFKA-10432", "KAFKA-20961"), patch(Recovery, "_finish_epochs", _forgets_epoch_0),
    ),
    Mutant(
        "rolls-back-what-is-unclear",
        "a leader takes back a proposal that an earlier copy of its request may have made true",
        "4, 9", ("KAFKA-14144",),
        patch(
            LeaderState, "decided",
            _answers_as(ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.INELIGIBLE_REPLICA),
        ),
    ),
    Mutant(
        "keeps-what-is-refused",
        "a leader never takes back a proposal that is refused",
        "9", (),
        patch(
            LeaderState, "decided",
            _answers_as(ErrorCode.INELIGIBLE_REPLICA, ErrorCode.INVALID_UPDATE_VERSION),
        ),
    ),
    Mutant(
        "one-stream-number",
        "all streams of a partition have the same number",
        "8, rule 3", (),
        (
            Patch(Incoming, "_send_opens", _numbers_streams_by_partition),
            Patch(Outgoing, "open", _takes_an_old_number),
        ),
    ),
    Mutant(
        "marks-need-data",
        "high watermarks reach followers only with the next record",
        "rule 4", (), patch(Outgoing, "marks_due", always(None)),
    ),
    Mutant(
        "counts-before-the-flush",
        "what is written counts, although flush.messages asks for more",
        "18", (), patch(Replica, "position", _counts_what_is_written),
    ),
)  # fmt: skip
