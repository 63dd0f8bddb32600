"""`kcluster load` under kills: of random processes, or of leaders whose followers were asleep.

    python -m tests.live.load_kills                       50 kills, the coordinator among them
    python -m tests.live.load_kills --fault mixed         kills, and pauses up to twice a session
    python -m tests.live.load_kills --acks 1 --fault leader --kills 5 --rate 4000 --size 1000
    python -m tests.live.load_kills --cluster dev         one that runs

`random` kills any process and has it started again up to a second later, whether or not the one
before is back: that is more than one at a time. `leader` stops the followers of partition 0 for a
moment, and kills its leader before they go on: what only the leader had is gone.

Prints one JSON object: the kills by process, and the report of the load. Ends as the load does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator

import msgspec

from kcluster.chaos.load import Load, LoadPlan
from kcluster.chaos.reach import Reach
from kcluster.client.control import ControlClient
from kcluster.client.find import connect
from kcluster.errors import UsageError
from kcluster.wire import control as c
from tests.live import killing
from tests.live.kill_leader import own_cluster

ASLEEP_S = 1.5
"""Shorter than a session: followers stay in the ISR."""

NEXT_S = (0.3, 1.2)
BACK_MS = (0, 1000)
PAUSE_MS = (100, 6000)


def await_acknowledgements(load: Load, count: int, timeout_s: float = 120) -> None:
    """So many more."""
    wanted = load.meter.acknowledged + count
    deadline = time.monotonic() + timeout_s
    while load.meter.acknowledged < wanted:
        assert time.monotonic() < deadline, "nothing is acknowledged any more"
        time.sleep(0.01)


def await_running(control: ControlClient, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        states = [info.state.state for info in control.describe().processes]
        if set(states) == {"running"}:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.01)


def kill_any(control: ControlClient, chance: random.Random) -> int:
    """The process that was killed; it comes back by itself."""
    running = [
        info.state.id for info in control.describe().processes if info.state.state == "running"
    ]
    if not running:
        return -1
    victim = chance.choice(running)
    control.command(c.Kill([victim], restart_after_ms=chance.randint(*BACK_MS)))
    return victim


def pause_any(control: ControlClient, chance: random.Random) -> int:
    """The process that stands still for a while."""
    running = [
        info.state.id for info in control.describe().processes if info.state.state == "running"
    ]
    if not running:
        return -1
    victim = chance.choice(running)
    control.command(c.Pause([victim], chance.randint(*PAUSE_MS)))
    return victim


def kill_with_followers_asleep(control: ControlClient, bootstrap: str, topic: str) -> int:
    """The leader that was killed; it is started again."""
    state = killing.partitions_of(bootstrap, topic)[0]
    followers = [id for id in state.replica_nodes if id != state.leader_id]
    control.command(c.Pause(followers))
    try:
        time.sleep(ASLEEP_S)
        control.command(c.Kill([state.leader_id]))
    finally:
        control.command(c.Resume(followers))
    killing.await_leader(bootstrap, topic, lambda leader: leader in followers)
    control.command(c.Start([state.leader_id]))
    return state.leader_id


def break_it(
    load: Load, control: ControlClient, bootstrap: str, fault: str, kills: int, seed: int
) -> Counter[int]:
    """Kills by process."""
    chance = random.Random(seed)
    killed: Counter[int] = Counter()
    while killed.total() < kills:
        if fault == "leader":
            victim = kill_with_followers_asleep(control, bootstrap, load.plan.topic)
            killing.await_in_sync(bootstrap, load.plan.topic, 3, 120)
            await_acknowledgements(load, 200)
        else:
            time.sleep(chance.uniform(*NEXT_S))
            victim = -1
            with contextlib.suppress(UsageError):  # it died of itself in this moment
                if fault == "mixed" and chance.random() < 0.5:
                    pause_any(control, chance)
                    continue
                victim = kill_any(control, chance)
        if victim >= 0:
            killed[victim] += 1
    return killed


@contextlib.contextmanager
def _reach(cluster: str | None) -> Iterator[tuple[ControlClient, str]]:
    if cluster is None:
        with own_cluster(3, []) as brokers:
            yield brokers.control, brokers.bootstrap  # type: ignore[attr-defined]
        return
    with connect(cluster) as control:
        infos = [info for info in control.describe().processes if info.state.id > 0]
        yield control, ",".join(f"{info.host}:{info.port}" for info in infos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cluster")
    parser.add_argument("--fault", choices=["random", "mixed", "leader"], default="random")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--acks", type=int, choices=[-1, 1, 0], default=-1)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--no-idempotent", action="store_true")
    parser.add_argument("--group")
    parser.add_argument("--tcp", action="store_true", help="by address, as any Kafka cluster")
    options = parser.parse_args()
    plan = LoadPlan(
        topic=f"load-{os.getpid()}",
        partitions=options.partitions,
        acks=options.acks,
        rate=options.rate,
        duration_s=None,
        size=options.size,
        producers=options.producers,
        readers=2 if options.group else 1,
        group=options.group,
        is_idempotent=not options.no_idempotent,
        settle_s=120,
    )
    with _reach(options.cluster) as (control, bootstrap):
        load = Load(plan, Reach(control.name, bootstrap if options.tcp else None))
        load.prepare()
        load.start()
        try:
            await_acknowledgements(load, 1000)
            killed = break_it(load, control, bootstrap, options.fault, options.kills, options.seed)
            await_running(control)
            await_acknowledgements(load, 1000)
        finally:
            load.finish()
        report = load.judge()
    names = {id: f"broker-{id}" if id else "coordinator" for id in killed}
    print(
        json.dumps(
            {
                "kills": {names[id]: count for id, count in sorted(killed.items())},
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "report": json.loads(msgspec.json.encode(report)),
            }
        )
    )
    sys.exit(report.exit_code)


if __name__ == "__main__":
    main()
