"""Damaged files under real brokers: found, never served, repaired from a peer, nothing lost.

The whole table runs on one cluster and one topic. Each case stops the broker that is preferred
to lead, damages one file of it, writes on meanwhile, starts it, and has it lead: then everything
that was ever acknowledged is read through it, or through whoever takes over, and all replicas
hold the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kcluster.client.snapshot import ClusterSnapshot
from kcluster.errors import UsageError
from tests.live import damage
from tests.live.damage import ATLAS, Case, Damage
from tests.live.patient import Patient, log_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def patient(live_home: Path) -> Iterator[Patient]:
    made = Patient("damage")
    yield made
    made.cluster.close()


@pytest.mark.parametrize("case", ATLAS, ids=lambda case: case.name)
def test_a_damaged_file_costs_nothing_that_was_acknowledged(patient: Patient, case: Case) -> None:
    cluster, victim = patient.cluster, patient.victim
    patient.fill_active()
    if case.file in damage.CHECKPOINTS:
        # Written by now, whatever the case before did to it.
        cluster.stop(victim)
        cluster.start(victim)
        cluster.wait_healthy()
    said_before = len(log_of(cluster, victim))
    (cluster.kill if case.is_killed else cluster.stop)(victim)
    before = patient.directory(victim)
    kept = {path.name for path in before.parent.iterdir() if path.is_dir()}
    case.damage(damage.target(before, case.file))
    patient.write(2)
    cluster.start(victim)
    status = cluster.wait_healthy()
    if case.found == "served":
        patient.lead()
        assert patient.read() == patient.acknowledged
        status = cluster.wait(lambda now: not now.is_healthy, "the damage is found")
        assert any("logs failed" in problem for problem in status.problems)
        assert cluster.leader(patient.topic) != victim
        patient.write(1)
        cluster.stop(victim)
        cluster.start(victim)
        status = cluster.wait_healthy()
    if case.said:
        assert case.said in log_of(cluster, victim)[said_before:]
        assert any(case.said in notice for notice in status.notices), status.notices
    assert not status_lacks_records(status)
    patient.lead()
    assert patient.read() == patient.acknowledged
    patient.assert_replicas_agree()
    assert {name.partition(".")[0] for name in kept} <= {
        path.name.partition(".")[0] for path in before.parent.iterdir()
    }, "something was deleted"


@pytest.mark.parametrize(
    "spoil", [damage.flip(0.999), damage.cut(0.5), damage.missing], ids=lambda d: d.__name__
)
def test_a_damaged_metadata_log_is_refused_and_left_as_it_is(
    patient: Patient, spoil: Damage
) -> None:
    """Nobody has another copy (C4): it must not be applied, and must not be taken for an older
    or an empty one. Who lives serves on."""
    cluster = patient.cluster
    path = max((cluster.directory / "coordinator" / "__cluster_metadata-0").glob("*.log"))
    cluster.kill(0)
    whole = path.read_bytes()
    spoil(path)
    spoiled = path.read_bytes() if path.exists() else None
    with pytest.raises(UsageError, match="did not start") as refused:
        cluster.start(0)
    assert "committed" in refused.value.why
    found = cluster.status()
    assert found.coordinator.state in ("failed", "starting")
    assert (path.read_bytes() if path.exists() else None) == spoiled
    patient.write(2)
    assert patient.read() == patient.acknowledged
    path.write_bytes(whole)
    cluster.start(0)
    cluster.wait_healthy()
    assert patient.read() == patient.acknowledged


def test_a_torn_write_behind_what_was_committed_is_cut_off_the_metadata_log(
    patient: Patient,
) -> None:
    cluster = patient.cluster
    path = max((cluster.directory / "coordinator" / "__cluster_metadata-0").glob("*.log"))
    cluster.kill(0)
    path.write_bytes(path.read_bytes() + b"torn" * 20)
    cluster.start(0)
    cluster.wait_healthy()
    log = (cluster.directory / "logs" / "coordinator.log").read_text()
    assert "cut 80 bytes that were never committed" in log
    assert patient.read() == patient.acknowledged


def status_lacks_records(status: ClusterSnapshot) -> bool:
    return any(partition.may_lack_records for partition in status.partitions)
