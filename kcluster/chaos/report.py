"""What a load has to say at its end: one value for people and for programs.

The names are stable: tools read them. `SCHEMA` rises when one changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from kcluster.chaos.judge import Verdict, is_promised
from kcluster.chaos.ledger import Meter

SCHEMA: Final = 1

EXIT_OK: Final = 0
EXIT_INCOMPLETE: Final = 10
EXIT_VIOLATED: Final = 11


class Described(msgspec.Struct, frozen=True):
    """What was done."""

    cluster: str
    """Name or bootstrap addresses."""
    topic: str
    run: str
    """What the values of this load begin with."""
    acks: int
    is_idempotent: bool
    producers: int
    readers: int
    group: str | None
    rate: float | None
    """Records/s that were asked for."""
    value_bytes: int
    partitions: int
    seconds: float
    """Of writing."""


class Figures(msgspec.Struct, frozen=True):
    """A load while it runs. Times in ms."""

    seconds: float
    recent: int
    """Acknowledged since the figures before."""
    p50_ms: float | None
    p99_ms: float | None
    sent: int
    acknowledged: int
    failed: int
    unknown: int
    under_way: int
    polled: int
    longest_gap_ms: float


class AnomalyReport(msgspec.Struct, frozen=True):
    count: int
    """Replicas that are equal show it once."""
    is_promised: bool
    """It breaks what Kafka promises to a producer with these settings."""
    examples: list[str]


class ReplicaReport(msgspec.Struct, frozen=True):
    partition: int
    broker: int
    is_leader: bool
    is_in_sync: bool
    records: int
    """Of this load."""
    end_offset: int
    """Exclusive end of what was read; -1 for nothing."""
    problem: str
    """Why it was not read to its end."""


class Report(msgspec.Struct, frozen=True):
    schema: int
    verdict: str
    """ok, violated (what is promised), lost (acknowledged with acks=1 and missing), incomplete
    (not everything could be looked at)."""
    load: Described
    records_per_s: float
    """Acknowledged (acks=0: sent)."""
    p50_ms: float | None
    """From send to acknowledgement, to 2 %; None with acks=0."""
    p99_ms: float | None
    longest_gap_ms: float | None
    """Without any acknowledgement while some were due."""
    longest_partition_gap_ms: float | None
    """The same, of one partition."""
    sent: int
    acknowledged: int
    failed: int
    """Refused for certain."""
    unknown: int
    """Neither acknowledged nor refused for certain. With acks=0: all."""
    unknown_written: int
    """Of these, found in the log."""
    lost: int
    """Acknowledged (acks=0: sent) and missing on some in-sync replica."""
    duplicated: int
    reordered: int
    expired: int
    """Below the log start now: retention took them."""
    polled: int
    repeated: int
    """Records that readers were given again."""
    errors: dict[str, int]
    """Records by the error that they were given up with."""
    anomalies: dict[str, AnomalyReport]
    replicas: list[ReplicaReport]
    notes: list[str]
    """What did not come in time, and what could not be looked at."""

    @property
    def exit_code(self) -> int:
        return {
            "ok": EXIT_OK,
            "incomplete": EXIT_INCOMPLETE,
        }.get(self.verdict, EXIT_VIOLATED)


def make_report(
    load: Described,
    meter: Meter,
    verdict: Verdict,
    replicas: list[ReplicaReport],
    notes: list[str],
    repeated: int,
    *,
    is_settled: bool,
) -> Report:
    """`is_settled`: every partition was led and fully in sync, and the readers were done."""
    is_acknowledging = load.acks != 0
    found = verdict.anomalies
    anomalies = {
        name: AnomalyReport(
            count,
            is_promised(name, load.acks, is_idempotent=load.is_idempotent),
            found.examples[name],
        )
        for name, count in sorted(found.counts.items())
    }
    unread = Counter(replica.problem for replica in replicas if replica.problem)
    notes = [*notes, *(f"{count} replicas: {why}" for why, count in sorted(unread.items()))]
    scanned = {replica.partition for replica in replicas if replica.end_offset >= 0}
    is_led = scanned >= {replica.partition for replica in replicas if replica.is_leader}
    word = "ok"
    if any(anomaly.is_promised for anomaly in anomalies.values()):
        word = "violated"
    elif verdict.lost and is_acknowledging:
        word = "lost"
    elif not is_settled or not is_led:
        word = "incomplete"
    count = meter.acknowledged
    return Report(
        SCHEMA,
        word,
        load,
        round(count / load.seconds, 1) if load.seconds else 0.0,
        _ms(meter.latencies.percentile(0.5)) if is_acknowledging else None,
        _ms(meter.latencies.percentile(0.99)) if is_acknowledging else None,
        _ms(meter.longest_gap_ns / 1e6) if is_acknowledging else None,
        _ms(meter.longest_partition_gap_ns / 1e6) if is_acknowledging else None,
        meter.sent,
        count if is_acknowledging else 0,
        meter.failed,
        meter.unknown if is_acknowledging else meter.sent - meter.failed,
        verdict.unknown_written,
        verdict.lost,
        verdict.duplicated,
        verdict.reordered,
        verdict.expired,
        meter.polled,
        repeated,
        meter.errors,
        anomalies,
        replicas,
        notes,
    )


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
