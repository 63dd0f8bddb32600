"""Counts page views per page and searches per keyword, live, while brokers come and go.

Start as many of it as you like, each in a terminal of its own: they are one consumer group and
share the partitions of both topics. When one ends, or the broker that coordinates the group is
killed, the others go on where it had committed.

    python examples/page_views/consumer.py                    one member
    python examples/page_views/consumer.py                    another one
    kcluster group describe page-views-counts                 who reads what, and how far behind

Each shows its own share: the ten most read pages and most searched keywords, a screen on a
terminal, one line a second elsewhere. Offsets are committed after the events below them were
counted, so that each event is counted at least once; one that comes again after a rebalance is
counted as repeated. Whatever dies, a member must see

    offsets one by one, from the committed one on, in each partition that it is assigned
    each user's steps in their order

and otherwise says so and ends with 1. What no member can see alone, that no step of any user is
missing in all of them together, `judge.py` finds in what `--record DIR` writes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from events import PAGE_VIEWS, SEARCHES

COMMIT_S = 1.0

Place = tuple[str, int]
"""Topic and partition."""


class Counts:
    def __init__(self, record: TextIO | None = None) -> None:
        self.pages: Counter[str] = Counter()
        self.keywords: Counter[str] = Counter()
        self.events = 0
        self.repeated = 0
        self.problems: list[str] = []
        self.next: dict[Place, int] = {}
        """The offset that must come next, of each partition that is assigned."""
        self._highest: dict[Place, int] = {}
        """The highest offset that this process has counted, in any assignment."""
        self._last: dict[tuple[str, int, str], int] = {}
        self._assignments = 0
        self._record = record

    def assigned(self, offsets: dict[Place, int]) -> None:
        """From these offsets on, and maybe over again what was counted before."""
        self._assignments += 1
        self.next.update(offsets)
        for key in [key for key in self._last if key[:2] in offsets]:
            del self._last[key]

    def revoked(self, places: Iterable[Place]) -> None:
        for place in places:
            self.next.pop(place, None)

    def take(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        event = json.loads(value)
        place = topic, partition
        if place not in self.next:
            return  # Revoked while it was on its way: its next owner gets it.
        if offset != self.next[place]:
            self.problems.append(
                f"{topic}-{partition}: offset {offset} came where {self.next[place]} should have"
            )
        self.next[place] = offset + 1
        if offset <= self._highest.get(place, -1):
            self.repeated += 1
        self._highest[place] = max(offset, self._highest.get(place, -1))
        self.events += 1
        if topic == PAGE_VIEWS:
            self.pages[event["page"]] += 1
        else:
            self.keywords[event["keyword"]] += 1
        # A user's steps are spread over the two topics; within each they only rise.
        user = f"{event['user']} of run {event['run']}"
        key = (topic, partition, user)
        if event["step"] <= self._last.get(key, 0):
            self.problems.append(
                f"{topic}-{partition} offset {offset}: step {event['step']} of {user}"
                f" came after step {self._last[key]}"
            )
        self._last[key] = event["step"]
        if self._record is not None:
            line = [self._assignments, topic, partition, offset, user, event["step"]]
            self._record.write(json.dumps(line) + "\n")


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> dict[Place, int]:
    """Where each partition goes on; from its start when the group never committed there."""
    found = {}
    for each in consumer.committed(partitions, timeout=30):
        offset = each.offset
        if offset < 0:
            offset, _ = consumer.get_watermark_offsets(each, timeout=30)
        found[each.topic, each.partition] = offset
    return found


def commit(consumer: Consumer, positions: dict[Place, int], *, waits: bool) -> None:
    offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
    if offsets:
        try:
            consumer.commit(offsets=offsets, asynchronous=not waits)
        except KafkaException as problem:
            # The next owner begins at the commit before: some events are counted again.
            print(f"not committed: {problem.args[0].str()}", file=sys.stderr)


def show(counts: Counts, is_screen: bool) -> None:
    share = f"{counts.events:,} events, {counts.repeated:,} repeated"
    if not is_screen:
        page, keyword = counts.pages.most_common(1), counts.keywords.most_common(1)
        print(f"{share}  most read {page}  most searched {keyword}", flush=True)
        return
    lines = [f"\x1b[H\x1b[2J{share}, {len(counts.next)} partitions", ""]
    lines += [f"{'PAGE':<40}{'VIEWS':>10}"]
    lines += [f"{page:<40}{count:>10,}" for page, count in counts.pages.most_common(10)]
    lines += ["", f"{'KEYWORD':<40}{'SEARCHES':>10}"]
    lines += [f"{word:<40}{count:>10,}" for word, count in counts.keywords.most_common(10)]
    print("\n".join([*lines, "", *counts.problems[-3:]]), flush=True)


class Stop:
    """Is set by Ctrl-C or SIGTERM. An exception instead could end a callback of the consumer
    half-way, and closing the consumer would wait for the rest of it for ever."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, *_: object) -> None:
        self.is_set = True


def read(consumer: Consumer, counts: Counts, limit: int, is_screen: bool, stop: Stop) -> None:
    def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        offsets = committed(consumer, partitions)
        counts.assigned(offsets)
        consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    def on_revoke(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(each.topic, each.partition) for each in partitions]
        done = {place: counts.next[place] for place in places if place in counts.next}
        commit(consumer, done, waits=True)
        counts.revoked(places)

    def on_lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        counts.revoked((each.topic, each.partition) for each in partitions)

    consumer.subscribe(
        [PAGE_VIEWS, SEARCHES], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost
    )
    told = time.monotonic()
    while not stop.is_set and (not limit or counts.events < limit):
        for message in consumer.consume(500, timeout=0.2):
            error = message.error()
            if error is None:
                counts.take(message.topic(), message.partition(), message.offset(), message.value())
            elif error.fatal():
                raise KafkaException(error)
            elif error.code() != KafkaError._PARTITION_EOF:
                print(f"trouble, going on: {error}", file=sys.stderr)
        if time.monotonic() - told >= COMMIT_S:
            told = time.monotonic()
            commit(consumer, counts.next, waits=False)
            show(counts, is_screen)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", default="127.0.0.1:19092")
    parser.add_argument("--group", default="page-views-counts")
    parser.add_argument("--count", type=int, default=0, help="events; 0: until Ctrl-C")
    parser.add_argument("--lines", action="store_true", help="lines also on a terminal")
    parser.add_argument("--record", type=Path, metavar="DIR", help="what came, for judge.py")
    options = parser.parse_args()
    is_screen = sys.stdout.isatty() and not options.lines
    stop = Stop()

    record = None
    if options.record is not None:
        options.record.mkdir(parents=True, exist_ok=True)
        record = (options.record / f"{os.getpid()}.jsonl").open("w")
    counts = Counts(record)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            # The same partitions of both topics, so that a user is one member's.
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
            "topic.metadata.refresh.fast.interval.ms": 10,
        }
    )
    try:
        read(consumer, counts, options.count, is_screen, stop)
    finally:
        consumer.close()  # which revokes, and so commits
        if record is not None:
            record.close()
    show(counts, is_screen)
    for problem in counts.problems[:10]:
        print(problem, file=sys.stderr)
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
