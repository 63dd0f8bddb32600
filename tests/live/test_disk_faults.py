"""Disks that fill up, fail, and lose power under real processes: a log stops, the cluster does
not, and nothing that was acknowledged is lost. `make test` runs some of each, `make test-long` all.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kcluster.world.failpoints import Failpoint, arm, lose_power
from tests.live.patient import Patient, log_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

LONG = pytest.mark.long
OPTIONS = {"fault.injection.enable": "true"}
BROKERS = (1, 2, 3)


@pytest.fixture(scope="module")
def faulty(live_home: Path) -> Iterator[Patient]:
    made = Patient("faults", options=OPTIONS)
    yield made
    made.cluster.close()


@pytest.fixture
def patient(faulty: Patient) -> Iterator[Patient]:
    faulty.fill_active()
    faulty.lead()
    yield faulty
    for id in (0, *BROKERS):
        arm(data_dir(faulty, id), [])


def data_dir(patient: Patient, id: int) -> Path:
    return patient.cluster.directory / (f"broker-{id}" if id else "coordinator")


def incarnation(patient: Patient, id: int) -> int:
    return next(state.incarnation for state in patient.cluster.states() if state.id == id)


def assert_nothing_is_lost(patient: Patient) -> None:
    patient.cluster.wait_healthy()
    patient.lead()
    assert patient.read() == patient.acknowledged
    patient.assert_replicas_agree()


FAILURES = [
    Failpoint("log.append", "errno", errno="ENOSPC", path="patient"),
    Failpoint("log.append", "short", errno="ENOSPC", size=20_011, path="patient", times=-1),
    Failpoint("log.append", "short", errno="EIO", size=61, path="patient"),
    Failpoint("segment.roll", "errno", errno="ENOSPC", path="patient"),
    Failpoint("index.write", "errno", errno="ENOSPC", path="patient"),
    Failpoint("log.fsync", "errno", errno="EIO", path="patient"),
]


@pytest.mark.parametrize("where", ["leader", pytest.param("follower", marks=LONG)])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: f"{f.point}-{f.action}-{f.errno}")
def test_a_disk_that_fails_stops_one_log_and_no_write(
    patient: Patient, failure: Failpoint, where: str
) -> None:
    cluster = patient.cluster
    broker = patient.victim if where == "leader" else patient.replicas()[1]
    arm(data_dir(patient, broker), [failure])
    patient.write(50)
    status = cluster.wait(
        lambda now: any("logs failed" in problem for problem in now.problems), "the log has failed"
    )
    assert failure.errno in " ".join(status.problems) or "errno" in " ".join(status.problems)
    cluster.wait(lambda _: cluster.leader(patient.topic) != broker, "another one leads")
    assert patient.read() == patient.acknowledged
    arm(data_dir(patient, broker), [])
    cluster.stop(broker)
    cluster.start(broker)
    assert_nothing_is_lost(patient)


def test_a_file_size_limit_is_a_full_disk_for_the_broker_that_has_it(patient: Patient) -> None:
    cluster = patient.cluster
    pid = next(state.pid for state in cluster.states() if state.id == patient.victim)
    limit = max(patient.segments()).stat().st_size + 100_001
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))
    patient.write(30)
    cluster.wait(lambda _: cluster.leader(patient.topic) != patient.victim, "another one leads")
    assert "EFBIG" in log_of(cluster, patient.victim)
    assert patient.read() == patient.acknowledged
    cluster.stop(patient.victim)
    cluster.start(patient.victim)
    assert_nothing_is_lost(patient)


@pytest.mark.parametrize(
    "point",
    [
        "log.append",
        "segment.roll",
        pytest.param("log.after_write_before_index", marks=LONG),
        pytest.param("index.write", marks=LONG),
        pytest.param("snapshot.before_rename", marks=LONG),
        pytest.param("log.fsync", marks=LONG),
        pytest.param("checkpoint.before_rename", marks=LONG),
    ],
)
def test_a_kill_at_a_point_between_two_operations_loses_nothing(
    patient: Patient, point: str
) -> None:
    before = incarnation(patient, patient.victim)
    arm(data_dir(patient, patient.victim), [Failpoint(point, "kill")])
    patient.write(50)
    patient.cluster.wait(lambda _: incarnation(patient, patient.victim) > before, "it was killed")
    assert_nothing_is_lost(patient)


@pytest.mark.parametrize(
    "failpoint",
    [
        Failpoint("metadata.append", "short", errno="EIO", size=70),
        Failpoint("metadata.before_fsync", "kill"),
        pytest.param(Failpoint("metadata.append", "errno", errno="ENOSPC"), marks=LONG),
        pytest.param(Failpoint("metadata.after_write", "kill"), marks=LONG),
    ],
    ids=lambda f: f"{f.point}-{f.action}",
)
def test_a_coordinator_whose_disk_fails_ends_and_comes_back_with_all_it_promised(
    patient: Patient, failpoint: Failpoint
) -> None:
    cluster = patient.cluster
    before = incarnation(patient, 0)
    topics = {partition.topic for partition in cluster.status().partitions}
    arm(data_dir(patient, 0), [failpoint])
    cluster.kill(3)
    cluster.wait(lambda _: incarnation(patient, 0) > before, "the coordinator came back")
    arm(data_dir(patient, 0), [])
    patient.write(3)
    cluster.start(3)
    assert_nothing_is_lost(patient)
    assert topics == {partition.topic for partition in cluster.status().partitions}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=LONG) for n in range(1, 6))])
def test_power_loss_of_one_replica_with_lazy_flush_loses_nothing(
    patient: Patient, seed: int
) -> None:
    """C2: min.insync.replicas - 1 may lose what was not synced."""
    cluster, random = patient.cluster, Random(seed)
    victim = random.choice(BROKERS)
    patient.write(random.randint(1, 40))
    cluster.kill(victim)
    lost = lose_power(data_dir(patient, victim), random)
    assert any(".log" in line for line in lost), "nothing was at stake"
    patient.write(3)
    cluster.start(victim)
    assert "after a lossy end" in log_of(cluster, victim).rpartition("starts")[2]
    assert_nothing_is_lost(patient)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=LONG) for n in range(1, 3))])
def test_power_loss_of_the_whole_machine_loses_nothing_where_each_record_is_flushed(
    flushed: Patient, seed: int
) -> None:
    cluster, random = flushed.cluster, Random(seed)
    flushed.write(random.randint(5, 25))
    cluster.kill(0, *BROKERS)
    for id in (0, *BROKERS):
        lose_power(data_dir(flushed, id), random)
    cluster.start(0, *BROKERS)
    assert_nothing_is_lost(flushed)
    flushed.write(3)


@pytest.fixture(scope="module")
def flushed(live_home: Path) -> Iterator[Patient]:
    made = Patient("flushed", configs={"flush.messages": "1"}, options=OPTIONS)
    yield made
    made.cluster.close()
