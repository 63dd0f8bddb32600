"""How long a broker takes to serve again, per GB of log, after a clean stop and after kill -9.

    python -m tests.live.recovery_time [--gb 1.0] [--rounds 5]

A broker alone with one partition of so many GB, in batches of 64 KiB. A round is: end it (in good
order, or by SIGKILL), start it, until it says that it is ready. The time of a start with an empty
log is measured the same way and subtracted: what is left is the log's. After a kill only what lies
above the recovery point is scanned, so that is measured as well with a recovery point that was
never written: the worst there is. Prints JSON: seconds per GB, median and spread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from kcluster.client.connect import over_tcp
from kcluster.client.producer import Producer
from kcluster.core.client.producer import ProducerSettings
from kcluster.core.log import checkpoints
from tests.live.conftest import LiveCluster

GB = 1 << 30
VALUE = bytes(range(256)) * 250


def fill(cluster: LiveCluster, topic: str, size: int) -> None:
    settings = ProducerSettings(batch_bytes=len(VALUE) + 1000)
    with Producer(over_tcp(cluster.bootstrap), settings) as producer:
        for _ in range(size // len(VALUE)):
            producer.send(topic, VALUE, partition=0)
        assert producer.flush(600)


def start_s(cluster: LiveCluster) -> float:
    asked = time.monotonic()
    cluster.start(1)
    return time.monotonic() - asked


def rounds_of(cluster: LiveCluster, end: str, count: int) -> list[float]:
    recovery_point = cluster.directory / "broker-1" / checkpoints.RECOVERY_POINTS
    times = []
    for _ in range(count):
        if end == "stop":
            cluster.stop(1)
        else:
            cluster.kill(1)
        if end == "kill, nothing checkpointed":
            recovery_point.unlink(missing_ok=True)
        times.append(start_s(cluster))
        cluster.wait_healthy()
    return times


def summary(times: list[float], base_s: float, gb: float) -> dict[str, Any]:
    per_gb = sorted((time - base_s) / gb for time in times)
    return {
        "median_s_per_gb": round(statistics.median(per_gb), 3),
        "least": round(per_gb[0], 3),
        "most": round(per_gb[-1], 3),
        "rounds": len(per_gb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["KCLUSTER_HOME"] = home
        cluster = LiveCluster("recovery-time", brokers=1)
        try:
            topic = cluster.topic("log", replicas=1)
            ends = ("stop", "kill", "kill, nothing checkpointed")
            base_s = {
                end: statistics.median(rounds_of(cluster, end, wanted.rounds)) for end in ends
            }
            fill(cluster, topic, int(wanted.gb * GB))
            size = sum(
                path.stat().st_size for path in Path(cluster.directory).glob("broker-1/*/*.log")
            )
            found = {
                end: summary(rounds_of(cluster, end, wanted.rounds), base_s[end], size / GB)
                for end in ends
            }
        finally:
            cluster.close()
    report = {"gb": round(size / GB, 3), "empty_start_s": base_s, "recovery": found}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
