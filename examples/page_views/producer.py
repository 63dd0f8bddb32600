"""Writes page views and searches into a cluster, and goes on while brokers are killed under it.

    kcluster up --brokers 3                                                    one terminal
    python examples/page_views/producer.py --bootstrap 127.0.0.1:19092         another
    python examples/page_views/consumer.py --bootstrap 127.0.0.1:19092         a third
    kcluster kill-broker --random --restart-after 5s                           a fourth

This is what Kafka was made for at LinkedIn: what visitors do, keyed by user, is published once and
read by whoever wants to count it. The producer is idempotent and waits for all in-sync replicas
(acks=all), so that nothing is lost, doubled or reordered when a leader dies: watch the longest
pause between two acknowledgements while you kill brokers. `--count` ends it, `--seed` repeats it.

The client is confluent-kafka, as in any other program; nothing here knows kcluster.
"""

from __future__ import annotations

import argparse
import sys
import time

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from events import PAGE_VIEWS, SEARCHES, generate

BACK_OFFS = {
    # librdkafka's own defaults are for clusters that need seconds to elect a leader.
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "topic.metadata.refresh.fast.interval.ms": 10,
}


class Acknowledgements:
    """What the cluster has confirmed, and the longest it was silent."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self.longest_gap_s = 0.0
        self._last = 0.0

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        now = time.monotonic()
        if error is not None:
            self.failed += 1
            print(f"not delivered: {error}", file=sys.stderr)
            return
        if self._last:
            self.longest_gap_s = max(self.longest_gap_s, now - self._last)
        self._last = now
        self.count += 1


def create_topics(bootstrap: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, num_partitions=partitions) for name in (PAGE_VIEWS, SEARCHES)]
    for future in admin.create_topics(wanted, operation_timeout=15).values():
        try:
            future.result()
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", default="127.0.0.1:19092")
    parser.add_argument("--count", type=int, default=0, help="events; 0: until Ctrl-C")
    parser.add_argument("--rate", type=float, default=1000, help="events per second; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--run", default=f"{time.time():.3f}", help="tells runs apart")
    parser.add_argument("--partitions", type=int, default=6)
    options = parser.parse_args()

    create_topics(options.bootstrap, options.partitions)
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "client.id": "page-views",
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            **BACK_OFFS,
        }
    )
    acknowledged = Acknowledgements()
    sent = 0
    began = told = time.monotonic()
    try:
        for event in generate(options.seed, options.users, options.run):
            if options.count and sent >= options.count:
                break
            while True:
                try:
                    producer.produce(
                        event.topic, event.value, event.key, on_delivery=acknowledged.delivered
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            sent += 1
            ahead_s = sent / options.rate - (time.monotonic() - began) if options.rate else 0
            producer.poll(max(0.0, ahead_s))
            if time.monotonic() - told >= 1:
                told = time.monotonic()
                print(
                    f"sent {sent:,}  acknowledged {acknowledged.count:,}"
                    f"  longest pause {acknowledged.longest_gap_s * 1000:.0f} ms",
                    flush=True,
                )
    except KeyboardInterrupt:
        pass
    left = producer.flush(60)
    print(
        f"sent {sent:,}  acknowledged {acknowledged.count:,}  failed {acknowledged.failed + left:,}"
        f"  longest pause {acknowledged.longest_gap_s * 1000:.0f} ms"
    )
    return 1 if acknowledged.failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
