"""What the screen costs: CPU of `kcluster top` in a terminal, and of the brokers that it watches.

    python -m tests.live.top_cost --partitions 50 --rounds 5

A cluster of its own under a load; in turns the screen is there and is not. Needs tmux. Prints
JSON: percent of one core, median and spread of the rounds, after one that does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.live.conftest import LiveCluster
from tests.live.test_top_terminal import COMMAND, Terminal

NAME = "cost"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partitions", type=int, default=50)
    parser.add_argument("--rate", type=int, default=500, help="records per second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each half of a round")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["KCLUSTER_HOME"] = home
        cluster = LiveCluster(NAME)
        try:
            cluster.topic("many", partitions=chosen.partitions)
            cluster.wait_healthy()
            print(json.dumps(measure(cluster, chosen)))
        finally:
            cluster.close()
    return 0


def measure(cluster: LiveCluster, chosen: argparse.Namespace) -> dict[str, object]:
    words = ["load", "-c", NAME, "-t", "many", "--duration", "0", "--rate", str(chosen.rate), "-q"]
    load = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL)
    pids = [state.pid for state in cluster.states() if state.id > 0]
    screens, watched, alone = [], [], []
    try:
        for number in range(chosen.rounds + 1):
            before = [cpu_s(pid) for pid in pids]
            time.sleep(chosen.seconds)
            without = [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
            screen = Terminal(f"cost{number}", (120, 40), "top", "-c", NAME, TERM="xterm-256color")
            screen.until_seen("HEALTHY")
            own = screen.pid
            before, was_own = [cpu_s(pid) for pid in pids], cpu_s(own)
            time.sleep(chosen.seconds)
            used = cpu_s(own) - was_own
            with_it = [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
            screen.close()
            if number:
                screens.append(used)
                alone.append(statistics.fmean(without))
                watched.append(statistics.fmean(with_it))
    finally:
        load.send_signal(signal.SIGTERM)
        load.wait()

    def percent(values: list[float]) -> dict[str, float]:
        shares = sorted(value / chosen.seconds * 100 for value in values)
        middle = round(statistics.median(shares), 2)
        return {"median": middle, "least": round(shares[0], 2), "most": round(shares[-1], 2)}

    return {
        "schema": 1,
        "partitions": chosen.partitions,
        "rate": chosen.rate,
        "screen": percent(screens),
        "broker_alone": percent(alone),
        "broker_watched": percent(watched),
    }


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
