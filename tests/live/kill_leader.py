"""Kill leaders under a writer and count: how long writing stood still, and what was lost.

    python -m tests.live.kill_leader                         a cluster of its own, 20 kills
    python -m tests.live.kill_leader --fault pause           SIGSTOP, noticed by heartbeats only
    python -m tests.live.kill_leader --fault two             leader and another at one moment
    python -m tests.live.kill_leader --fault all             every broker, and started again
    python -m tests.live.kill_leader --cluster dev           one that runs
    python -m tests.live.kill_leader --bootstrap HOST:PORT --peer-script kafka.py
                                                             somebody else's, for comparison

Prints one JSON object: gaps in ms, p50 and worst, and the audit of everything acknowledged. Ends
with 11 when something was lost, duplicated or reordered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from kcluster.client.find import connect, running_cluster
from tests.live import killing
from tests.live.killing import Brokers, KclusterBrokers, PeerBrokers, Writer

EXIT_LOST = 11


@contextlib.contextmanager
def own_cluster(brokers: int, options: list[str]) -> Iterator[Brokers]:
    """A new one, gone afterwards."""
    name = f"kill-{os.getpid()}"
    kcluster = [sys.executable, "-m", "kcluster.cli.main"]
    up = ["up", "-c", name, "-n", str(brokers), "--any-port", "--ephemeral", "-d", *options]
    subprocess.run([*kcluster, *up], check=True, stdout=subprocess.DEVNULL)
    try:
        with connect(name) as control:
            yield KclusterBrokers(running_cluster(name).bootstrap, control)
    finally:
        subprocess.run([*kcluster, "down", "-c", name], check=False, capture_output=True)


@contextlib.contextmanager
def reach(options: argparse.Namespace) -> Iterator[Brokers]:
    # Also who is told to stop takes the cluster down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.bootstrap:
        yield PeerBrokers(options.bootstrap, options.peer_script)
    elif options.cluster:
        with connect(options.cluster) as control:
            yield KclusterBrokers(running_cluster(options.cluster).bootstrap, control)
    else:
        extra = [word for pair in options.X for word in ("-X", pair)]
        with own_cluster(options.brokers, extra) as brokers:
            yield brokers


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """With the options that `reach` reads."""
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--cluster")
    parser.add_argument("--bootstrap")
    parser.add_argument("--peer-script")
    parser.add_argument("-X", action="append", default=[], metavar="key=value")
    options = parser.parse_args()
    if options.bootstrap and not options.peer_script:
        parser.error("--bootstrap needs --peer-script, which kills and starts its brokers")
    return options


def fault_once(brokers: Brokers, fault: str, topic: str, count: int, writer: Writer) -> int:
    """Break, wait until writing goes on, mend; when it was broken (monotonic ns)."""
    leader = killing.leader_of(brokers.bootstrap, topic)
    everybody = list(range(1, count + 1))
    match fault:
        case "kill":
            victims = [leader]
            at_ns = brokers.kill(victims)
        case "two":
            victims = [leader, next(id for id in everybody if id != leader)]
            at_ns = brokers.kill(victims)
        case "all":
            victims = everybody
            at_ns = brokers.kill(victims)
            brokers.start(victims)
        case _:
            victims = [leader]
            at_ns = brokers.pause(victims)
    writer.await_acknowledgements(200, 120)
    if fault == "pause":
        brokers.resume(victims)
    elif fault != "all":
        brokers.start(victims)
    return at_ns


def run(brokers: Brokers, options: argparse.Namespace) -> dict[str, object]:
    topic = f"kill-leader-{os.getpid()}"
    replicas = options.replicas or min(3, options.brokers)
    killing.create_topic(
        brokers.bootstrap,
        topic,
        options.partitions,
        replicas,
        min_insync_replicas=str(options.min_isr),
    )
    killing.await_in_sync(brokers.bootstrap, topic, replicas)
    gaps: list[float] = []
    with Writer(brokers.bootstrap, topic, rate=options.rate) as writer:
        writer.await_acknowledgements(int(options.rate))
        for number in range(options.times):
            at_ns = fault_once(brokers, options.fault, topic, options.brokers, writer)
            killing.await_in_sync(brokers.bootstrap, topic, replicas, 120)
            writer.await_acknowledgements(200)
            gaps.append(writer.gap_ms(at_ns))
            print(f"{options.fault} {number + 1}: {gaps[-1]:.0f} ms", file=sys.stderr, flush=True)
    audit = killing.audit(brokers.bootstrap, writer)
    return {
        "schema": 1,
        "fault": options.fault,
        "times": len(gaps),
        "gap_p50_ms": round(statistics.median(gaps), 1),
        "gap_worst_ms": round(max(gaps), 1),
        "gaps_ms": [round(gap, 1) for gap in gaps],
        "sent": writer.sent,
        "acknowledged": len(writer.acknowledged),
        "failed": len(writer.failures),
        "read": audit.read,
        "lost": len(audit.lost),
        "duplicated": len(audit.duplicated),
        "reordered": len(audit.reordered),
        "misplaced": len(audit.misplaced),
        "back_offs": killing.BACK_OFFS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--fault", choices=["kill", "pause", "two", "all"], default="kill")
    parser.add_argument("--replicas", type=int, default=0, help="0: the lesser of 3 and brokers")
    parser.add_argument("--min-isr", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2000)
    options = parse(parser)
    began = time.monotonic()
    with reach(options) as brokers:
        report = run(brokers, options)
    report["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(report))
    counts = ("lost", "duplicated", "reordered", "misplaced", "failed")
    return EXIT_LOST if any(report[name] for name in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
