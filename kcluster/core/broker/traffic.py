"""How much clients have written to this broker and read from it: numbers that only rise."""

from __future__ import annotations

from collections.abc import Collection

from kcluster.wire.telling import Traffic


class TrafficCounts:
    def __init__(self) -> None:
        self.by_topic: dict[str, Traffic] = {}
        self._gone = Traffic()
        """Of topics that are no more."""

    def wrote(self, topic: str, size: int, records: int) -> None:
        traffic = self.by_topic.get(topic)
        if traffic is None:
            traffic = self.by_topic[topic] = Traffic()
        traffic.bytes_in += size
        traffic.records_in += records

    def read(self, topic: str, size: int) -> None:
        traffic = self.by_topic.get(topic)
        if traffic is None:
            traffic = self.by_topic[topic] = Traffic()
        traffic.bytes_out += size

    def keep(self, topics: Collection[str]) -> None:
        """Count all others together from now on."""
        for topic in [topic for topic in self.by_topic if topic not in topics]:
            _add(self._gone, self.by_topic.pop(topic))

    def total(self) -> Traffic:
        total = Traffic()
        for traffic in (self._gone, *self.by_topic.values()):
            _add(total, traffic)
        return total


def _add(total: Traffic, traffic: Traffic) -> None:
    total.bytes_in += traffic.bytes_in
    total.bytes_out += traffic.bytes_out
    total.records_in += traffic.records_in
