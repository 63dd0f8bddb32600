"""What `kcluster doctor` finds of a machine and of clusters that do not run."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from kcluster.processes import machine
from kcluster.processes.checkup import check_cluster
from kcluster.processes.machine import OK, WARNING, WRONG, Finding
from kcluster.processes.workdir import Workdir
from kcluster.world import platform

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path / "home"))
    # What other tests and programs leave in /tmp is not looked at.
    monkeypatch.setattr("kcluster.processes.checkup.stale_socket_dirs", list)
    return tmp_path / "home"


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in findings}


def test_this_machine_is_fit(home: Path) -> None:
    found = list(machine.check_machine(home))
    assert {"python", "kernel", "dependencies", "descriptors", "disk", "memory", "sockets"} == {
        finding.check for finding in found
    }
    assert all(finding.hint for finding in found if finding.verdict != OK)
    assert verdicts(found)["python"] == verdicts(found)["dependencies"] == OK


def test_an_old_python_is_wrong() -> None:
    assert machine.check_python((3, 10, 4)).verdict == WRONG
    assert machine.check_python((3, 11, 0)).verdict == OK


@pytest.mark.parametrize(
    ("soft", "hard", "verdict"),
    [(1024, 65536, OK), (1024, -1, OK), (1024, 1024, WARNING), (256, 256, WRONG)],
)
def test_descriptors_are_counted_by_what_servers_may_raise_them_to(
    soft: int, hard: int, verdict: str
) -> None:
    assert machine.check_files(soft, hard).verdict == verdict


@pytest.mark.parametrize(
    ("free", "verdict"), [(10 << 30, OK), (2 << 30, WARNING), (100 << 20, WRONG)]
)
def test_a_full_disk_is_wrong_before_it_is_full(
    free: int, verdict: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, free))
    [found] = machine.check_disk(home / "not" / "there")
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("version", "bounds", "is_fit"),
    [
        ("27.3.0", ">=27,<28", True), ("28", ">=27,<28", False), ("26.9", "<28,>=27", False),
        ("0.28.0", ">=0.26,<0.29", True), ("0.29", ">=0.26,<0.29", False), ("9.0rc1", ">=9", True),
        ("1.0", "", True), ("1.0", "~=0.9", True),
    ],
)  # fmt: skip
def test_versions_are_held_against_their_bounds(version: str, bounds: str, is_fit: bool) -> None:
    assert machine.fits(version, bounds) is is_fit


def test_what_is_missing_or_too_old_is_named() -> None:
    found = machine.check_dependencies(["no-such-package>=1", "msgspec>=999", "rich>=1"])
    assert found.verdict == WRONG
    assert "no-such-package is missing" in found.text
    assert "is not >=999" in found.text and "rich" not in found.text


def test_a_socket_path_that_is_too_long_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCLUSTER_SOCKETS", str(tmp_path / ("x" * 80)))
    first, *_, last = machine.check_sockets()
    assert first.verdict == WARNING and "too long" in first.text
    assert last.verdict == OK


def test_sockets_that_nobody_listens_to_are_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kt-") as base:
        monkeypatch.setenv("KCLUSTER_SOCKETS", base)
        living, dead = Path(base) / "kc-living", Path(base) / "kc-dead"
        for place in (living, dead):
            place.mkdir()
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as gone:
            listener.bind(str(living / "control"))
            listener.listen()
            gone.bind(str(dead / "control"))
            gone.close()
            (Path(base) / "kc-other").mkdir()
            found = [place for place in machine.stale_socket_dirs() if place.parent == Path(base)]
            assert found == [dead]


# --- clusters -------------------------------------------------------------------------------


@pytest.fixture
def stopped() -> tuple[str, Path, int]:
    """A cluster of one broker that has ended; its name, directory and port."""
    workdir = Workdir.claim("stopped")
    workdir.take_seats(1, None)
    workdir.save()
    workdir.data_dir(1).mkdir()
    workdir.release()
    return "stopped", workdir.directory, workdir.cluster.seats[0].port


def test_a_cluster_that_is_not_there_yet_is_no_fault() -> None:
    [found] = check_cluster("nobody")
    assert (found.verdict, found.hint) == (OK, "kcluster up -c nobody")


def test_a_stopped_cluster_with_free_ports_is_fine(stopped: tuple[str, Path, int]) -> None:
    assert verdicts(list(check_cluster(stopped[0]))) == {"cluster stopped": OK, "ports": OK}


def test_a_port_that_somebody_has_taken_is_named_with_its_holder(
    stopped: tuple[str, Path, int],
) -> None:
    name, _, port = stopped
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        found = {finding.check: finding for finding in check_cluster(name)}
    assert found["ports"].verdict == WRONG
    assert f"{port} of broker 1 is in use" in found["ports"].text
    assert "--any-port" in found["ports"].hint


def test_a_server_that_outlived_its_supervisor_is_wrong(stopped: tuple[str, Path, int]) -> None:
    name, directory, _ = stopped
    fd = platform.lock_directory(directory / "broker-1")
    assert fd is not None
    try:
        found = verdicts(list(check_cluster(name)))
    finally:
        import os

        os.close(fd)
    assert found["broker-1"] == WRONG


def test_an_unclean_end_is_worth_a_word(stopped: tuple[str, Path, int]) -> None:
    name, directory, _ = stopped
    path = directory / "cluster.json"
    path.write_text(path.read_text().replace('"supervisor_pid": 0', '"supervisor_pid": 4711'))
    found = verdicts(list(check_cluster(name)))
    assert found[f"cluster {name}"] == WARNING


def test_a_damaged_cluster_file_is_wrong(stopped: tuple[str, Path, int]) -> None:
    name, directory, _ = stopped
    (directory / "cluster.json").write_text("{")
    [found] = check_cluster(name)
    assert found.verdict == WRONG and "is damaged" in found.text
