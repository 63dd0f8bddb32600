"""Fixed sights of clusters, for pictures that can be compared."""

from __future__ import annotations

from kcluster.client.snapshot import (
    BrokerStatus,
    ClusterSnapshot,
    CoordinatorStatus,
    PartitionStatus,
    ReplicaStatus,
    SupervisorStatus,
)
from kcluster.client.watch import Sight
from kcluster.tui.view import View
from kcluster.wire.events import ClusterEvent
from kcluster.wire.telling import Counters, Traffic

NOON_MS = 1_700_049_600_000 + 4 * 60_000 + 31_207
"""12:04:31.207 UTC."""

LOGS = {
    # high watermark, bytes of segments, lag of broker 3, leader, broker 2's lag
    ("orders", 0): (182_401, [4 << 20] * 4 + [2 << 20], 2_113, 1, 0),
    ("orders", 1): (180_113, [4 << 20] * 4 + [1 << 20], 1_904, 2, 0),
    ("orders", 2): (179_870, [4 << 20] * 4 + [3 << 20], 9_140, 1, 212),
    ("orders", 3): (181_002, [4 << 20] * 4 + [100_000], 1_212, 1, 0),
    ("clicks", 0): (9_220, [1 << 20] * 2 + [600_000], 31, 1, 0),
    ("clicks", 1): (9_118, [1 << 20] * 2 + [500_000], 18, 2, 0),
    ("audit", 0): (51, [51_000], 0, 2, 0),
    ("__consumer_offsets", 0): (388, [12_288], 0, 2, 0),
}


def broker(id: int, *, state: str = "running", at_ms: int = NOON_MS, second: int = 0,
           partitions: list[PartitionStatus]) -> BrokerStatus:  # fmt: skip
    own = [r for p in partitions for r in p.replicas if r.broker == id]
    runs = state == "running"
    traffic = Traffic(1_400_000 * second // id, 4_100_000 * second // id, 900 * second // id)
    return BrokerStatus(
        id, 41_022 + id if runs else None, state, "127.0.0.1", 19_091 + id,
        f"/data/broker-{id}", is_fenced=not runs, incarnation=1, broker_epoch=id,
        rss=(62 - id) << 20 if runs else 0, cpu_ms=60 * second // id, starts=1,
        since_ms=at_ms - 8_000 if not runs else at_ms - 751_000,
        last_end="" if runs else "SIGKILL by command",
        leads=sum(p.leader == id for p in partitions), replicas=len(own),
        size=sum(r.size or 0 for r in own), segments=sum(len(r.segments) for r in own),
        max_lag=max((r.lag or 0 for r in own), default=None),
        counters=Counters(traffic, connections=4) if runs else None,
    )  # fmt: skip


def partition(topic: str, number: int, *, is_third_down: bool) -> PartitionStatus:
    mark, sizes, lag, leader, lag_of_two = LOGS[topic, number]
    start = 6_000 if topic == "clicks" else 0
    replicas = []
    for id in (1, 2, 3):
        if topic == "audit" and id == 1:
            continue
        behind = {2: lag_of_two, 3: lag if is_third_down else 0}.get(id, 0)
        bases = [start + place * (mark - start) // len(sizes) for place in range(len(sizes))]
        own = list(zip(bases, sizes, strict=True))
        if id == 3 and is_third_down and len(own) > 1:
            own = [*own[:-1], (own[-1][0], own[-1][1] // 3)]
        role = "leader" if id == leader else "in-sync"
        if id == 3 and is_third_down:
            role = "down"
        size = sum(each for _, each in own)
        replicas.append(ReplicaStatus(
            id, role, start, mark - behind, mark, behind, size, own
        ))  # fmt: skip
    isr = [r.broker for r in replicas if r.role in ("leader", "in-sync")]
    return PartitionStatus(topic, number, leader, 4, isr, [], replicas)


def snapshot(*, is_third_down: bool = True, second: int = 0) -> ClusterSnapshot:
    partitions = [
        partition(topic, number, is_third_down=is_third_down) for topic, number in sorted(LOGS)
    ]
    at_ms = NOON_MS + second * 1000
    brokers = [
        broker(
            id, state="killed" if id == 3 and is_third_down else "running", at_ms=at_ms,
            second=second, partitions=partitions,
        )
        for id in (1, 2, 3)
    ]  # fmt: skip
    problems = [
        "broker 3 is killed", "8 partitions have fewer in-sync replicas than assigned"
    ] if is_third_down else []  # fmt: skip
    coordinator = CoordinatorStatus(
        41_020, "running", "/data/coordinator", 812, 1, 48 << 20, 5 * second, 1, at_ms - 751_000
    )
    return ClusterSnapshot(
        1, "dev", "degraded" if is_third_down else "ok", problems, "id", "127.0.0.1:19092",
        "/data", SupervisorStatus(41_000), coordinator, brokers, partitions,
        up_ms=751_000 + second * 1000, at_ms=at_ms,
    )  # fmt: skip


def event(seq: int, after_ms: int, type: str, name: str, text: str, *, topic: str = "",
          partition: int = -1, broker: int = -1, process: int = 0) -> ClusterEvent:  # fmt: skip
    return ClusterEvent(
        seq, NOON_MS + after_ms, after_ms * 1_000_000, process, 1, type, name, text, topic,
        partition, broker,
    )  # fmt: skip


def events() -> list[ClusterEvent]:
    told = [
        event(1, 0, "chaos", "Killed", "SIGKILL sent", broker=3, process=-1),
        event(2, 3, "process", "Died", "ended: SIGKILL by command", broker=3, process=-1),
        event(3, 7, "election", "Elected", "leader 3 → 1, epoch 5", topic="orders", partition=3),
    ]
    told += [
        event(4 + place, 7, "isr", "IsrShrunk", "{1,2,3} → {1,2}, died", topic=topic,
              partition=number)
        for place, (topic, number) in enumerate(LOGS)
    ]  # fmt: skip
    told += [
        event(20, 5_811, "segment", "SegmentRolled", "rolled at offset 9000", topic="clicks",
              partition=0, process=1),
        event(21, 5_895, "retention", "SegmentDeleted", "deleted the segment at 6000 (1.0M)",
              topic="clicks", partition=0, process=2),
    ]  # fmt: skip
    return told


def view_of_a_death() -> View:
    """Twelve healthy seconds, then broker 3 is killed, and eight more."""
    view = View("dev")
    for second in range(20):
        is_down = second >= 12
        sight = Sight(snapshot(is_third_down=is_down, second=second), [])
        view.take(sight)
    view.story.extend(events())
    return view


def large(brokers: int, partitions: int, *, second: int = 0) -> ClusterSnapshot:
    """Every partition on three brokers, three segments each; lags differ from look to look."""
    found = []
    for number in range(partitions):
        ids = [(number + place) % brokers + 1 for place in range(min(3, brokers))]
        end = 1000 * number + 37 * second
        found.append(PartitionStatus(
            f"topic-{number // 100}", number % 100, ids[0], 1, ids, [],
            [
                ReplicaStatus(
                    id, "leader" if not place else "in-sync", 0, end, end,
                    (number * 7 + second * 13 + place) % 150 if place else 0, 3_000 + end,
                    [(0, 1_000), (10, 1_000), (20, 1_000 + end)],
                )
                for place, id in enumerate(ids)
            ],
        ))  # fmt: skip
    states = [
        broker(id, second=second, at_ms=NOON_MS + 1000 * second, partitions=found)
        for id in range(1, brokers + 1)
    ]
    coordinator = CoordinatorStatus(41_020, "running", "/data/coordinator", 812, 1, 48 << 20)
    return ClusterSnapshot(
        1, "large", "ok", [], "id", "", "/data", SupervisorStatus(41_000), coordinator, states,
        found, at_ms=NOON_MS + 1000 * second,
    )  # fmt: skip
