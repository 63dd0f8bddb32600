"""What compaction costs clients: latencies of a producer beside compactors at work, and without.

    python -m tests.live.compaction_cost
    python -m tests.live.compaction_cost --rounds 10 --mb 100

A cluster of its own, in turns. A topic of replication factor 3 is filled with keyed records; a
producer of another one, one request in flight, acks=all, is measured while nothing is compacted,
and then while brokers compact the first, in all of that time.

Prints one JSON object: latencies in us, the median of the rounds and the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from typing import Any

import psutil

from kcluster.bench import topic as topics
from kcluster.bench.connection import Connection, connect_any
from kcluster.bench.produce import Lanes, Load, Round, build
from kcluster.client.connect import parse_bootstrap
from kcluster.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from kcluster.wire.records import Record, build_batch
from tests.live.kill_leader import parse, reach
from tests.processes.conftest import wait_until

MEASURED, COMPACTED = "compaction-cost", "compaction-cost-compacted"
TOPIC_RESOURCE, SET = 2, 0
LAG = "min.compaction.lag.ms"
NEVER_MS = 10**12
COMPACTED_CONFIGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "min.cleanable.dirty.ratio": "0.01",
    LAG: str(NEVER_MS),
}
SOON_MS = 100
"""How often brokers look for something to compact."""
KEYS = 400_000
RECORDS_IN_BATCH = 2000
VALUE_BYTES = 100
WARM_UP_S = 3.0
REST_S = 1.5
"""For what writing has left to do."""
DEADLINE_S = 120.0
REPLICAS = 3

PRODUCER = Load(batch_bytes=1200, in_flight=1)


def compactors() -> int:
    return sum(
        each.info["name"].startswith("kc-compact-") for each in psutil.process_iter(["name"])
    )


def keyed_batches(size: int) -> list[bytearray]:
    """About `size` bytes of them."""
    chance = random.Random(1)
    now_ms = int(time.time() * 1000)
    batches: list[bytearray] = []
    while sum(map(len, batches)) < size:
        records = [
            Record(chance.randbytes(VALUE_BYTES), b"%d" % chance.randrange(KEYS), timestamp=now_ms)
            for _ in range(RECORDS_IN_BATCH)
        ]
        batches.append(build_batch(records))
    return batches


def set_lag(connection: Connection, lag_ms: int) -> None:
    config = AlterableConfig(name=LAG, config_operation=SET, value=str(lag_ms))
    resource = AlterConfigsResource(
        resource_type=TOPIC_RESOURCE, resource_name=COMPACTED, configs=[config]
    )
    answer = connection.ask(
        IncrementalAlterConfigsRequest(resources=[resource]), IncrementalAlterConfigsResponse
    )
    assert answer.responses[0].error_code == 0, answer


def measure(bootstrap: str, options: argparse.Namespace) -> dict[str, Any]:
    connection = connect_any(parse_bootstrap(bootstrap))
    topics.create(connection, MEASURED, 1, REPLICAS, {})
    topics.create(connection, COMPACTED, 1, REPLICAS, COMPACTED_CONFIGS)
    keyed = keyed_batches(options.mb << 20)
    filling = Lanes(Load(), COMPACTED, topics.leaders(connection, COMPACTED, 1), keyed)
    batches, count = build(PRODUCER)
    producing = Lanes(PRODUCER, MEASURED, topics.leaders(connection, MEASURED, 1), batches)

    def produce(seconds: float) -> Round:
        return producing.run(seconds, sys.maxsize, count)

    produce(WARM_UP_S)
    quiet: list[Round] = []
    beside: list[Round] = []
    for _ in range(options.rounds):
        filling.run(DEADLINE_S, sum(map(len, keyed)), RECORDS_IN_BATCH)
        os.sync()
        time.sleep(REST_S)
        quiet.append(produce(options.seconds))
        set_lag(connection, 0)
        wait_until(lambda: compactors() > 0, "a broker compacts", DEADLINE_S)
        beside.append(produce(options.seconds))
        assert compactors() > 0, "all was compacted before the end: give it more --mb"
        set_lag(connection, NEVER_MS)
        wait_until(lambda: compactors() == 0, "the end of compaction", DEADLINE_S)
    filling.close()
    producing.close()
    connection.close()
    return {"schema": 1, "quiet": said(quiet), "compacting": said(beside)}


def said(rounds: list[Round]) -> dict[str, Any]:
    figures: dict[str, Any] = {"requests": sum(each.batches for each in rounds)}
    for name in ("latency_p50_us", "latency_p99_us"):
        values = [getattr(each, name) for each in rounds]
        figures[name] = {
            "median": round(statistics.median(values)),
            "lowest": round(min(values)),
            "highest": round(max(values)),
        }
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--mb", type=int, default=60, help="written and compacted in each round")
    options = parse(parser)
    options.X.append(f"log.cleaner.backoff.ms={SOON_MS}")
    with reach(options) as brokers:
        print(json.dumps(measure(brokers.bootstrap, options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
