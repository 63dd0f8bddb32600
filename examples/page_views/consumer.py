"""Counts page views per page and searches per keyword, live, while brokers come and go.

Reads all partitions of both topics from the beginning (partitions are assigned, there is no
group), and shows the ten most read pages and most searched keywords: a screen on a terminal, one
line a second elsewhere. It also watches what must hold whatever dies: each user's steps arrive
without a gap, a repetition or a change of order; otherwise it says so and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from events import PAGE_VIEWS, SEARCHES


class Counts:
    def __init__(self) -> None:
        self.pages: Counter[str] = Counter()
        self.keywords: Counter[str] = Counter()
        self.events = 0
        self.problems: list[str] = []
        self._steps: dict[str, set[int]] = {}
        self._last: dict[tuple[str, int, str], int] = {}

    def take(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        event = json.loads(value)
        self.events += 1
        if topic == PAGE_VIEWS:
            self.pages[event["page"]] += 1
        else:
            self.keywords[event["keyword"]] += 1
        # A user's steps are spread over the two topics; within each they only rise.
        user = f"{event['user']} of run {event['run']}"
        place = (topic, partition, user)
        if event["step"] <= self._last.get(place, 0):
            self.problems.append(
                f"{topic}-{partition} offset {offset}: step {event['step']} of {user}"
                f" came after step {self._last[place]}"
            )
        self._last[place] = event["step"]
        self._steps.setdefault(user, set()).add(event["step"])

    def missing_steps(self) -> int:
        """Steps below a user's last one that have not come: 0 once both topics are read."""
        return sum(max(steps) - len(steps) for steps in self._steps.values())


def partitions_of(bootstrap: str, wait_s: float = 30) -> list[TopicPartition]:
    """All of both topics, as soon as they are there."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + wait_s
    while True:
        topics = admin.list_topics(timeout=10).topics
        if all(name in topics for name in (PAGE_VIEWS, SEARCHES)):
            return [
                TopicPartition(name, partition, OFFSET_BEGINNING)
                for name in (PAGE_VIEWS, SEARCHES)
                for partition in topics[name].partitions
            ]
        if time.monotonic() > deadline:
            sys.exit(f"topics {PAGE_VIEWS} and {SEARCHES} are not there: start the producer first")
        time.sleep(0.2)


def show(counts: Counts, is_screen: bool) -> None:
    if not is_screen:
        page, keyword = counts.pages.most_common(1), counts.keywords.most_common(1)
        print(f"{counts.events:,} events  most read {page}  most searched {keyword}", flush=True)
        return
    lines = [f"\x1b[H\x1b[2J{counts.events:,} events", "", f"{'PAGE':<40}{'VIEWS':>10}"]
    lines += [f"{page:<40}{count:>10,}" for page, count in counts.pages.most_common(10)]
    lines += ["", f"{'KEYWORD':<40}{'SEARCHES':>10}"]
    lines += [f"{word:<40}{count:>10,}" for word, count in counts.keywords.most_common(10)]
    print("\n".join([*lines, "", *counts.problems[-3:]]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", default="127.0.0.1:19092")
    parser.add_argument("--count", type=int, default=0, help="events; 0: until Ctrl-C")
    parser.add_argument("--lines", action="store_true", help="lines also on a terminal")
    options = parser.parse_args()
    is_screen = sys.stdout.isatty() and not options.lines

    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": "page-views-counts",  # librdkafka wants one; no group is joined
            "enable.auto.commit": False,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
            "topic.metadata.refresh.fast.interval.ms": 10,
        }
    )
    consumer.assign(partitions_of(options.bootstrap))
    counts = Counts()
    shown = time.monotonic()
    try:
        while not options.count or counts.events < options.count:
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is not None:
                    if error.fatal():
                        raise KafkaException(error)
                    if error.code() != KafkaError._PARTITION_EOF:
                        print(f"trouble, going on: {error}", file=sys.stderr)
                    continue
                counts.take(message.topic(), message.partition(), message.offset(), message.value())
            if time.monotonic() - shown >= 1:
                shown = time.monotonic()
                show(counts, is_screen)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    show(counts, is_screen)
    for problem in counts.problems[:10]:
        print(problem, file=sys.stderr)
    if options.count and counts.missing_steps():
        counts.problems.append(f"{counts.missing_steps()} steps never came")
        print(counts.problems[-1], file=sys.stderr)
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
