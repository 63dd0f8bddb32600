"""What must not be in a history, by the names of Jepsen's Kafka workload.

    lost-write            acknowledged (acks=all), and some replica's full scan lacks it
    duplicate             an idempotent producer's value stands at two offsets
    reordering            two acknowledged values of one producer stand in the wrong order
    inconsistent-offsets  one offset with two values, among acknowledgements, polls and logs
    phantom-write         refused for certain, and there all the same
    foreign-write         a value that nobody sent
    nonmonotonic-poll     a consumer was given an offset at or below one it had
    poll-skip             a consumer was never given a record between two that it was given
    diverged-logs         replicas do not hold the same at the end

A compacted partition may lack what a later record of the same key has superseded; what its
replicas hold in the end is compared key by key (`compacted.CompactedTruth`). A record that was
deleted on purpose may be missing anywhere.

And those of consumer groups, see `groups`.

A report gives the count of each and its most telling examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from kcluster.check import groups
from kcluster.check.history import FAIL, OK, History
from kcluster.model import TopicPartition

EXAMPLES_MAX = 5


@dataclass(slots=True)
class Anomalies:
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, example: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        examples = self.examples.setdefault(name, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(example)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        lines = []
        for name, count in sorted(self.counts.items()):
            lines.append(f"{name}: {count}")
            lines += [f"    {example}" for example in self.examples[name]]
        return "\n".join(lines) or "no anomalies"


def find(history: History) -> Anomalies:
    found = Anomalies()
    _writes(history, found)
    _offsets(history, found)
    _polls(history, found)
    for tp, by_broker in sorted(history.logs.items()):
        logs = sorted(by_broker.items()) if tp not in history.compacted else []
        start = history.deleted.get(tp, 0)
        logs = [(id, [each for each in log if each[0] >= start]) for id, log in logs]
        for (first, one), (second, other) in pairwise(logs):
            if one != other:
                at = next((a for a, b in zip(one, other, strict=False) if a != b), None)
                where = f"first at {at}" if at else f"lengths {len(one)}, {len(other)}"
                found.add("diverged-logs", f"{tp}: brokers {first} and {second}, {where}")
    for name, example in groups.find(history.groups, _known_offsets(history)):
        found.add(name, example)
    return found


def _known_offsets(history: History) -> dict[TopicPartition, list[int]]:
    """Of the records that every replica holds at the end and nobody may ever have missed: who
    reads below a deletion that was given up again is told to go on behind it."""
    known = {}
    for tp, by_broker in history.logs.items():
        held = [{offset for offset, _ in log} for log in by_broker.values()]
        everywhere = set.intersection(*held) if held else set()
        known[tp] = sorted(at for at in everywhere if not history.is_gone(tp, at))
    return known


def _writes(history: History, found: Anomalies) -> None:
    sent_values = {sent.value: sent for sent in history.sends}
    for tp, by_broker in sorted(history.logs.items()):
        for broker, log in sorted(by_broker.items()):
            places: dict[bytes, list[int]] = {}
            for offset, value in log:
                places.setdefault(value, []).append(offset)
            last: dict[str, tuple[int, bytes]] = {}
            for sent in (s for s in history.sends if s.tp == tp and not s.is_tombstone):
                where = places.get(sent.value, [])
                example = f"{tp} on broker {broker}: {sent.value!r} acked at {sent.offset}"
                is_missing = not where and not history.is_gone(tp, sent.offset)
                if sent.outcome == OK and sent.acks == -1 and is_missing:
                    found.add("lost-write", example)
                if sent.outcome == FAIL and where:
                    found.add("phantom-write", f"{example}, refused, at {where}")
                if sent.is_idempotent and len(where) > 1:
                    found.add("duplicate", f"{example}, at {where}")
                if sent.outcome == OK and sent.is_idempotent and where:
                    before = last.get(sent.producer)
                    if before is not None and before[0] > where[0]:
                        found.add("reordering", f"{example} stands before {before[1]!r}")
                    last[sent.producer] = where[0], sent.value
            for value, offsets in places.items():
                if value not in sent_values or sent_values[value].tp != tp:
                    found.add("foreign-write", f"{tp} on broker {broker}: {value!r} at {offsets}")


def _claims(history: History) -> Iterator[tuple[TopicPartition, int, bytes, str]]:
    """Everything anybody was told to stand at an offset."""
    for sent in history.sends:
        is_told = sent.outcome == OK and sent.offset >= 0 and sent.acks == -1
        if is_told and not sent.is_tombstone:
            yield sent.tp, sent.offset, sent.value, f"acked to {sent.producer}"
    for polled in history.polls:
        for offset, value in polled.records:
            yield polled.tp, offset, value, f"polled by {polled.consumer}"
    for tp, by_broker in sorted(history.logs.items()):
        for broker, log in sorted(by_broker.items()):
            for offset, value in log:
                yield tp, offset, value, f"on broker {broker}"


def _offsets(history: History, found: Anomalies) -> None:
    first: dict[tuple[TopicPartition, int], tuple[bytes, str]] = {}
    for tp, offset, value, who in _claims(history):
        told = first.setdefault((tp, offset), (value, who))
        if told[0] != value:
            found.add(
                "inconsistent-offsets",
                f"{tp}@{offset}: {told[0]!r} {told[1]}, but {value!r} {who}",
            )


def _polls(history: History, found: Anomalies) -> None:
    known: dict[TopicPartition, set[int]] = {}
    for tp, offset, _, _ in _claims(history):
        known.setdefault(tp, set()).add(offset)
    position: dict[tuple[str, TopicPartition], int] = {}
    for polled in history.polls:
        key = polled.consumer, polled.tp
        for offset, value in polled.records:
            last = position.get(key)
            if last is not None and offset <= last:
                found.add("nonmonotonic-poll", f"{polled.consumer} {polled.tp}@{offset} {value!r}")
            elif last is not None:
                for skipped in range(last + 1, offset):
                    if skipped in known[polled.tp] and not history.is_gone(polled.tp, skipped):
                        found.add("poll-skip", f"{polled.consumer} {polled.tp}@{skipped}")
            position[key] = max(offset, last if last is not None else -1)
