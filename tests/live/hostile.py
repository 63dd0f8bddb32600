"""Hostile bytes against brokers, a well-behaved client beside them: answers, memory, times.

    python -m tests.live.hostile                                   a cluster of its own
    python -m tests.live.hostile --bootstrap HOST:PORT --pid PID,PID   any Kafka brokers
    python -m tests.live.hostile --only slow --slow 4000

In turns: some quiet seconds, one input (`hostile_frames.py`, `hostile_batches.py`, and for a
cluster of its own `hostile_bus.py`), quiet again. The client is a process of its own: produce,
acks=all, one request in flight, at a modest rate, every tenth batch of 200 KB, and now and then
a new connection. Peak memory is VmHWM, reset before each input (Linux).

Prints one JSON object; exit 11 when an input was answered with what its table does not allow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from kcluster.bench import topic as topics
from kcluster.bench.connection import Address, Connection, connect_any
from kcluster.client.connect import parse_bootstrap
from kcluster.errors import KclusterError
from kcluster.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kcluster.wire.records import Record, build_batch
from tests.live import hostile_batches, hostile_frames
from tests.live.conftest import LiveCluster
from tests.live.hostile_frames import INPUTS, Input, Target

assert hostile_batches.FIELDS, "its inputs are in the table"

SMALL_BYTES: Final = 512
LARGE_BYTES: Final = 200_000
LARGE_EVERY: Final = 10
CONNECT_EVERY: Final = 25
PERIOD_S: Final = 0.02
ANSWER_S: Final = 60.0
EXIT_WRONG: Final = 11
CLIENT: Final = "beside"


# --- the client beside --------------------------------------------------------------------------


def be_client(address: tuple[str, int], topic: str) -> None:
    """Produce until killed; a line for each request: when it was sent, ms, whether it was taken."""
    batches = [
        bytes(build_batch([Record(bytes(size), timestamp=1)]))
        for size in (SMALL_BYTES, LARGE_BYTES)
    ]
    connection: Connection | None = None
    for number in itertools.count():
        began = time.monotonic()
        try:
            if connection is None or number % CONNECT_EVERY == 0:
                if connection is not None:
                    connection.close()
                connection = Connection(address)
                connection.socket.settimeout(ANSWER_S)
            _produce(connection, topic, batches[number % LARGE_EVERY == 0])
            is_taken = 1
        except (OSError, KclusterError, AssertionError):
            connection, is_taken = None, 0
        ended = time.monotonic()
        print(began, (ended - began) * 1000, is_taken, flush=True)
        time.sleep(max(0.0, began + PERIOD_S - ended))


def _produce(connection: Connection, topic: str, batch: bytes) -> None:
    part = PartitionProduceData(index=0, records=batch)
    answer = connection.ask(
        ProduceRequest(
            acks=-1,
            timeout_ms=30_000,
            topic_data=[TopicProduceData(name=topic, partition_data=[part])],
        ),
        ProduceResponse,
        9,
    )
    assert answer.responses[0].partition_responses[0].error_code == 0


class Beside:
    """The client as a process, and all it has told."""

    def __init__(self, address: tuple[str, int], topic: str) -> None:
        self.told: list[tuple[float, float, bool]] = []
        """(monotonic s when it was sent, ms, whether it was taken) of each request that ended."""
        command = [sys.executable, "-m", "tests.live.hostile", CLIENT, f"{address[0]}:{address[1]}"]
        self._process = subprocess.Popen([*command, topic], stdout=subprocess.PIPE, text=True)
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sent, took_ms, is_taken = line.split()
            with self._news:
                self.told.append((float(sent), float(took_ms), is_taken == "1"))
                self._news.notify_all()

    def await_taken(self, count: int, timeout_s: float = ANSWER_S) -> bool:
        """Until `count` more of those it sends from now on were taken; whether that came true."""
        began = time.monotonic()

        def is_so() -> bool:
            return sum(sent >= began and taken for sent, _, taken in self.told) >= count

        with self._news:
            return self._news.wait_for(is_so, timeout_s)

    def between(self, start: float, end: float) -> dict[str, Any]:
        """Of the requests sent then."""
        some = [told for told in self.told if start <= told[0] <= end]
        took = sorted(took_ms for _, took_ms, _ in some)
        return {
            "requests": len(some),
            "failed": sum(not taken for *_, taken in some),
            "p50_ms": round(statistics.median(took), 1) if took else None,
            "p99_ms": round(took[min(len(took) - 1, int(len(took) * 0.99))], 1) if took else None,
            "worst_ms": round(took[-1], 1) if took else None,
        }

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


# --- memory ---------------------------------------------------------------------------------------


class Memory:
    """Peak resident memory of processes, since the last `reset`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = list(pids)

    def reset(self) -> None:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peaks_mib(self) -> list[int]:
        return [self._peak_kib(pid) >> 10 for pid in self.pids]

    def now_mib(self) -> list[int]:
        return [psutil.Process(pid).memory_info().rss >> 20 for pid in self.pids]

    @staticmethod
    def _peak_kib(pid: int) -> int:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError(f"process {pid} tells no peak memory")


# --- a run ---------------------------------------------------------------------------------------


class Siege:
    """Inputs against one target, one after the other."""

    patience_s = 20.0
    """For the client to be answered while the input stands."""

    def __init__(self, target: Target, memory: Memory, beside: Beside) -> None:
        self.target = target
        self.memory = memory
        self.beside = beside

    def look(self, name: str, input: Input, quiet_s: float, lasting_s: float) -> dict[str, Any]:
        """Quiet, the input, quiet again until the client is answered; what came of it."""
        quiet_from = time.monotonic()
        time.sleep(quiet_s)
        began = time.monotonic()
        self.memory.reset()
        answers = input.run(self.target)
        stands: Counter[str] = Counter()
        deadline = time.monotonic() + lasting_s
        if not input.is_lasting:
            # Once more and once more: of a single stall no p99 can be told.
            while time.monotonic() < deadline:
                answers += input.run(self.target)
        else:
            while time.monotonic() < deadline:
                if "slow" in name:
                    hostile_frames.trickle(self.target)
                time.sleep(0.5)
            stands = hostile_frames.states(self.target)
        ended = time.monotonic()
        peaks = self.memory.peaks_mib()
        # Still under attack, when it lasts.
        is_served = self.beside.await_taken(3, self.patience_s)
        during = self.beside.between(began, ended)
        self.target.let_go()
        is_served_after = self.beside.await_taken(3)
        unexpected = {answer for answer in answers if input.expects and answer not in input.expects}
        return {
            "input": name,
            "answers": dict(answers),
            "held": dict(stands),
            "unexpected": sorted(unexpected),
            "seconds": round(ended - began, 1),
            "peak_mib": peaks,
            "is_served": is_served,
            "is_served_after": is_served_after,
            "quiet": self.beside.between(quiet_from, began - 0.1),
            "during": during,
        }


def place(connection: Connection, wanted: dict[str, dict[str, str]], replicas: int) -> Address:
    """New topics of one partition each, all on the same brokers and led by the same, which is
    returned. `wanted` are their configs by name."""
    described = connection.ask(MetadataRequest(topics=[]), MetadataResponse)
    ids = sorted(broker.node_id for broker in described.brokers)[:replicas]
    created = connection.ask(
        CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=name,
                    num_partitions=-1,
                    replication_factor=-1,
                    assignments=[CreatableReplicaAssignment(partition_index=0, broker_ids=ids)],
                    configs=[CreatableTopicConfig(name=k, value=v) for k, v in configs.items()],
                )
                for name, configs in wanted.items()
            ],
            timeout_ms=15_000,
        ),
        CreateTopicsResponse,
    )
    assert not any(topic.error_code for topic in created.topics), created
    return {topics.leaders(connection, name, 1)[0] for name in wanted}.pop()


@contextmanager
def besiege(
    bootstrap: str, pids: Sequence[int], connections: int, slow: int, replicas: int
) -> Iterator[Siege]:
    plain, compacted, aside = (f"hostile-{os.getpid()}-{n}" for n in ("plain", "keys", CLIENT))
    wanted = {plain: {}, compacted: {"cleanup.policy": "compact"}, aside: {}}
    with connect_any(parse_bootstrap(bootstrap)) as connection:
        address = place(connection, wanted, replicas)
    target = Target(address, plain, compacted, connections, slow)
    beside = Beside(address, aside)
    try:
        assert beside.await_taken(10), "the client beside is not answered"
        yield Siege(target, Memory(pids), beside)
    finally:
        target.let_go()
        beside.close()


def run(options: argparse.Namespace, siege: Siege) -> list[dict[str, Any]]:
    found = []
    for name, input in INPUTS.items():
        if options.only in name:
            found.append(siege.look(name, input, options.quiet, options.lasting))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def main() -> int:
    if sys.argv[1:2] == [CLIENT]:
        be_client(parse_bootstrap(sys.argv[2])[0], sys.argv[3])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", default="")
    parser.add_argument("--pid", default="", help="of the brokers, for their memory")
    parser.add_argument("--only", default="", help="inputs whose name has this in it")
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--slow", type=int, default=300)
    parser.add_argument("--quiet", type=float, default=2.0, help="seconds before each input")
    parser.add_argument("--lasting", type=float, default=3.0, help="seconds that connections stay")
    parser.add_argument("--replicas", type=int, default=3)
    options = parser.parse_args()
    cluster = None
    if options.bootstrap:
        bootstrap, pids = options.bootstrap, [int(pid) for pid in options.pid.split(",") if pid]
    else:
        cluster = LiveCluster(f"hostile-{os.getpid()}")
        bootstrap = cluster.bootstrap
        pids = [state.pid for state in cluster.states() if state.id > 0]
    try:
        with besiege(bootstrap, pids, options.connections, options.slow, options.replicas) as siege:
            before = siege.memory.now_mib()
            found = run(options, siege)
            after = siege.memory.now_mib()
    finally:
        if cluster is not None:
            cluster.close()
    print(json.dumps({"schema": 1, "before_mib": before, "after_mib": after, "inputs": found}))
    is_wrong = any(one["unexpected"] or not one["is_served"] for one in found)
    return EXIT_WRONG if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
