"""The state of a cluster as one value: what `status`, `top` and the metrics show.

Put together from three sources: the supervisor (processes), the coordinator or, while it is away,
any broker (the image: leaders and ISRs), and every broker (what its replicas hold). They are asked
once (`ask_snapshot`), or push what changes (`watch.py`). Who does not answer leaves holes (None),
never stale figures.

The names are stable: tools read them. `SCHEMA` rises when one changes its meaning.
"""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from kcluster.client.control import BusClient, ControlClient
from kcluster.core.metadata import records
from kcluster.core.metadata.image import BrokerImage, ClusterImage
from kcluster.model import COORDINATOR, NO_LEADER, topic_id_text
from kcluster.wire import bus, telling
from kcluster.wire import control as c

SCHEMA = 1

QUESTION_MS = 1_000
"""A paused process does not answer; the others are shown nevertheless."""


class ReplicaStatus(msgspec.Struct, frozen=True):
    broker: int
    role: str
    """leader, in-sync, behind (out of the ISR), offline (its log failed), down (its broker)."""
    log_start: int | None = None
    log_end: int | None = None
    high_watermark: int | None = None
    lag: int | None = None
    """Records that the leader has and this one lacks; None while either is not known. Of one that
    is down, where something was heard of it before: as it was then."""
    size: int | None = None
    """Bytes."""
    segments: list[tuple[int, int]] = []
    """(base offset, bytes), oldest first; the last one is active."""
    problem: str = ""


class PartitionStatus(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    leader: int
    """-1 for none."""
    leader_epoch: int
    isr: list[int]
    elr: list[int]
    replicas: list[ReplicaStatus]
    """In the order of the assignment, the preferred leader first."""
    topic_id: str = ""
    may_lack_records: bool = False
    """The leader was elected although data may be missing."""
    adding: list[int] = []
    """Replicas that a reassignment brings, until it is complete."""
    removing: list[int] = []

    @property
    def is_under_replicated(self) -> bool:
        """What is being added is not missing yet, as in Kafka."""
        return any(
            replica.broker not in self.isr and replica.broker not in self.adding
            for replica in self.replicas
        )

    @property
    def is_reassigning(self) -> bool:
        return bool(self.adding or self.removing)

    @property
    def is_offline(self) -> bool:
        return self.leader == NO_LEADER


class BrokerStatus(msgspec.Struct, frozen=True):
    id: int
    pid: int | None
    state: str
    """starting, running, paused, stopped, killed, failed."""
    host: str
    port: int
    data_dir: str
    is_fenced: bool | None = None
    """None while nobody can tell."""
    incarnation: int = 0
    broker_epoch: int | None = None
    rss: int = 0
    """Bytes."""
    cpu_ms: int = 0
    starts: int = 0
    since_ms: int = 0
    """Wall clock of the last change of its state."""
    last_end: str = ""
    leads: int = 0
    """Partitions."""
    replicas: int = 0
    size: int | None = None
    """Bytes of its logs."""
    segments: int | None = None
    max_lag: int | None = None
    counters: telling.Counters | None = None
    """Of this incarnation; None for one that does not answer."""
    rack: str | None = None
    """As it registered."""


class CoordinatorStatus(msgspec.Struct, frozen=True):
    pid: int | None
    state: str
    data_dir: str
    metadata_offset: int | None = None
    incarnation: int = 0
    rss: int = 0
    cpu_ms: int = 0
    starts: int = 0
    since_ms: int = 0
    last_end: str = ""


class SupervisorStatus(msgspec.Struct, frozen=True):
    pid: int
    rss: int = 0
    cpu_ms: int = 0


class ClusterSnapshot(msgspec.Struct, frozen=True):
    schema: int
    name: str
    health: str
    """ok, degraded (something is missing, all partitions are served), unavailable."""
    problems: list[str]
    cluster_id: str
    bootstrap: str
    directory: str
    supervisor: SupervisorStatus
    coordinator: CoordinatorStatus
    brokers: list[BrokerStatus]
    partitions: list[PartitionStatus]
    up_ms: int = 0
    notices: list[str] = []
    """What brokers found broken on their disks since they started, and what became of it."""
    at_ms: int = 0
    """Wall clock."""
    events: dict[str, int] = {}
    """How often each kind of event came since the supervisor started: IsrShrunk, Elected, ..."""

    @property
    def is_healthy(self) -> bool:
        return self.health == "ok"


class Holdings(msgspec.Struct):
    """What one broker told of its replicas."""

    replicas: dict[tuple[str, int], telling.ReplicaState]
    notices: list[str] = []
    counters: telling.Counters | None = None
    is_current: bool = True
    """Otherwise as it was when the broker was last heard of."""


def ask_snapshot(control: ControlClient, servers: BusClient) -> ClusterSnapshot:
    """Ask everybody. UsageError when the supervisor does not answer."""
    description = control.describe()
    states = [info.state for info in description.processes]
    image = read_image(servers, states)
    return compose(description, image, ask_holdings(servers, states))


def compose(
    description: c.Description, image: ClusterImage | None, holdings: dict[int, Holdings]
) -> ClusterSnapshot:
    """`holdings` by broker; one that nothing is known of is missing."""
    states = [info.state for info in description.processes]
    brokers = [state for state in states if state.id != COORDINATOR]
    partitions = _partitions(image, holdings) if image is not None else []
    problems = _problems(description, image, partitions)
    infos = {info.state.id: info for info in description.processes}
    coordinator = infos[COORDINATOR]
    offline = any(partition.is_offline for partition in partitions)
    unavailable = offline or not any(state.state == "running" for state in brokers)
    now_ms = time.time_ns() // 1_000_000
    return ClusterSnapshot(
        SCHEMA,
        description.name,
        "unavailable" if unavailable else "degraded" if problems else "ok",
        problems,
        image.cluster_id if image is not None else "",
        ",".join(f"{i.host}:{i.port}" for i in description.processes if i.state.id != COORDINATOR),
        description.directory,
        SupervisorStatus(description.supervisor_pid, description.rss_bytes, description.cpu_ms),
        CoordinatorStatus(
            coordinator.state.pid or None,
            coordinator.state.state,
            coordinator.data_dir,
            image.next_offset if image is not None else None,
            coordinator.state.incarnation,
            coordinator.rss_bytes,
            coordinator.cpu_ms,
            coordinator.starts,
            coordinator.since_ms,
            coordinator.last_end,
        ),
        _brokers([infos[state.id] for state in brokers], image, partitions, holdings),
        partitions,
        now_ms - description.started_ms,
        [
            f"broker {id}: {notice}"
            for id, held in sorted(holdings.items())
            for notice in held.notices
        ],
        now_ms,
        description.events,
    )


def read_image(servers: BusClient, states: list[bus.ProcessState]) -> ClusterImage | None:
    """As the coordinator has it; without one, as the broker has it that knows most."""
    running = [state for state in states if state.state == "running"]
    for group in (
        [state for state in running if state.id == COORDINATOR],
        [state for state in running if state.id != COORDINATOR],
    ):
        answers = servers.ask(group, telling.DescribeImage, QUESTION_MS)
        images = [
            (message.metadata_offset, payload)
            for message, payload in answers.values()
            if isinstance(message, telling.Image) and payload
        ]
        if images:
            offset, payload = max(images, key=lambda image: image[0])
            image = ClusterImage()
            for record in records.decode_all(payload[0]):
                image.replay(record)
            image.next_offset = offset
            return image
    return None


def ask_holdings(servers: BusClient, states: list[bus.ProcessState]) -> dict[int, Holdings]:
    """By broker; one that did not answer is missing."""
    running = [state for state in states if state.id != COORDINATOR and state.state == "running"]
    answers = servers.ask(running, telling.DescribeReplicas, QUESTION_MS)
    found = {}
    for id, (message, _) in sorted(answers.items()):
        if isinstance(message, telling.Replicas):
            replicas = {(own.topic, own.partition): own for own in message.replicas}
            found[id] = Holdings(replicas, message.notices, message.counters)
    return found


def _partitions(image: ClusterImage, holdings: dict[int, Holdings]) -> list[PartitionStatus]:
    found = []
    for name, topic in sorted(image.topics.items()):
        for index, state in sorted(topic.partitions.items()):
            key = (name, index)
            leading = holdings.get(state.leader)
            leader = leading.replicas.get(key) if leading is not None else None
            found.append(
                PartitionStatus(
                    name,
                    index,
                    state.leader,
                    state.leader_epoch,
                    sorted(state.isr),
                    sorted(state.elr),
                    [
                        _replica(
                            id,
                            key,
                            holdings.get(id),
                            leader,
                            is_leader=id == state.leader,
                            is_in_sync=id in state.isr,
                        )
                        for id in state.replicas
                    ],
                    topic_id_text(topic.id),
                    state.recovering,
                    state.adding,
                    state.removing,
                )
            )
    return found


def _replica(
    broker: int,
    key: tuple[str, int],
    held: Holdings | None,
    leader: telling.ReplicaState | None,
    *,
    is_leader: bool,
    is_in_sync: bool,
) -> ReplicaStatus:
    is_current = held is not None and held.is_current
    state = held.replicas.get(key) if held is not None else None
    if state is None:
        return ReplicaStatus(broker, "offline" if is_current else "down")
    role = "leader" if is_leader else "in-sync" if is_in_sync else "behind"
    if not is_current:
        role = "down"
    elif state.role == "offline":
        role = "offline"
    lag = None if leader is None else max(0, leader.log_end_offset - state.log_end_offset)
    return ReplicaStatus(
        broker,
        role,
        state.log_start_offset,
        state.log_end_offset,
        state.high_watermark,
        lag,
        state.size_bytes,
        state.segments,
        state.problem,
    )


def _brokers(
    infos: list[c.ProcessInfo],
    image: ClusterImage | None,
    partitions: list[PartitionStatus],
    holdings: dict[int, Holdings],
) -> list[BrokerStatus]:
    leads: Counter[int] = Counter(partition.leader for partition in partitions)
    assigned: Counter[int] = Counter()
    lags: dict[int, int] = {}
    for partition in partitions:
        for replica in partition.replicas:
            assigned[replica.broker] += 1
            if replica.lag is not None:
                lags[replica.broker] = max(lags.get(replica.broker, 0), replica.lag)
    return [
        _broker(
            info,
            image.brokers.get(info.state.id) if image is not None else None,
            holdings.get(info.state.id),
            leads[info.state.id],
            assigned[info.state.id],
            lags.get(info.state.id),
        )
        for info in infos
    ]


def _broker(
    info: c.ProcessInfo,
    registered: BrokerImage | None,
    held: Holdings | None,
    leads: int,
    replicas: int,
    max_lag: int | None,
) -> BrokerStatus:
    own = held.replicas.values() if held is not None else None
    return BrokerStatus(
        info.state.id,
        info.state.pid or None,
        info.state.state,
        info.host,
        info.port,
        info.data_dir,
        None if registered is None else registered.is_fenced,
        info.state.incarnation,
        None if registered is None else registered.broker_epoch,
        info.rss_bytes,
        info.cpu_ms,
        info.starts,
        info.since_ms,
        info.last_end,
        leads,
        replicas,
        None if own is None else sum(replica.size_bytes for replica in own),
        None if own is None else sum(len(replica.segments) for replica in own),
        max_lag,
        held.counters if held is not None and held.is_current else None,
        None if registered is None else registered.rack,
    )


def _problems(
    description: c.Description, image: ClusterImage | None, partitions: list[PartitionStatus]
) -> list[str]:
    """In words, the worst first."""
    found = []
    offline = sum(partition.is_offline for partition in partitions)
    if offline:
        found.append(f"{offline} partitions have no leader")
    for info in description.processes:
        name = f"broker {info.state.id}" if info.state.id else "the coordinator"
        if info.state.state != "running":
            found.append(f"{name} is {info.state.state}")
        elif image is not None and info.state.id:
            registered = image.brokers.get(info.state.id)
            if registered is None or registered.is_fenced:
                found.append(f"{name} is fenced")
    failed = [
        f"{partition.topic}-{partition.partition} on broker {replica.broker}: {replica.problem}"
        for partition in partitions
        for replica in partition.replicas
        if replica.role == "offline" and replica.problem
    ]
    if failed:
        found.append(f"{len(failed)} logs failed; restart-broker has them repaired: {failed[0]}")
    under = sum(partition.is_under_replicated for partition in partitions)
    if under:
        found.append(f"{under} partitions have fewer in-sync replicas than assigned")
    lossy = sum(partition.may_lack_records for partition in partitions)
    if lossy:
        found.append(f"{lossy} partitions may lack records")
    if image is None:
        found.append("nobody could say who leads what")
    return found
