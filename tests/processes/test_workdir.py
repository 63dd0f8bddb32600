from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from kcluster.errors import UsageError
from kcluster.processes import ports, survival
from kcluster.processes import workdir as w
from kcluster.processes.workdir import Workdir


def claimed(name: str = "dev", **wanted: object) -> Workdir:
    made = Workdir.claim(name, **wanted)  # type: ignore[arg-type]
    made.save()
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ports, "locks_path", lambda: tmp_path / "ports")
    return tmp_path / "home"


def test_a_directory_is_held_by_one_supervisor_at_a_time(home: Path) -> None:
    first = claimed()
    assert w.holder(home / "dev") == os.getpid()
    with pytest.raises(UsageError, match=f"in use .pid {os.getpid()}"):
        Workdir.claim("dev")
    first.release()
    assert w.holder(home / "dev") is None
    Workdir.claim("dev").release()


def test_a_name_leads_to_where_dir_put_the_cluster(tmp_path: Path) -> None:
    claimed(directory=tmp_path / "elsewhere").release()
    assert w.locate("dev") == tmp_path / "elsewhere"
    assert w.list_clusters() == [("dev", tmp_path / "elsewhere")]
    Workdir.claim("dev").release()  # and needs no --dir the next time


def test_a_link_that_goes_away_while_it_is_looked_at_is_no_error(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As an ephemeral cluster's does, when it comes down under `kcluster down`.
    claimed(directory=tmp_path / "elsewhere").release()
    (home / "dev").unlink()
    monkeypatch.setattr(Path, "is_symlink", lambda self: True)
    assert w.locate("dev") == home / "dev"


def test_a_cluster_is_in_one_place_only(tmp_path: Path) -> None:
    claimed().release()
    with pytest.raises(UsageError, match="cluster dev is in"):
        Workdir.claim("dev", tmp_path / "elsewhere")


def test_what_is_not_a_clusters_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(UsageError, match="not empty"):
        Workdir.claim("dev", tmp_path / "photos")


def test_incarnations_rise_over_restarts(home: Path) -> None:
    first = claimed()
    used = [first.next_incarnation() for _ in range(w.INCARNATION_BLOCK + 5)]
    assert used == sorted(set(used))
    os.close(first._lock_fd)  # killed: nothing is written any more
    assert Workdir.claim("dev").next_incarnation() > used[-1]


def test_ports_are_kept_and_the_next_cluster_takes_another_block() -> None:
    first = claimed()
    first.take_seats(3, None)
    ports = [seat.port for seat in first.cluster.seats]
    first.release()
    second = claimed("other")
    second.take_seats(2, None)
    assert not set(ports) & {seat.port for seat in second.cluster.seats}
    again = Workdir.claim("dev")
    again.take_seats(3, None)
    assert [seat.port for seat in again.cluster.seats] == ports


def test_a_port_in_use_names_who_has_it() -> None:
    made = claimed()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is in use .pid {os.getpid()},") as error:
            made.take_seats(1, port)
        assert error.value.hint == "kcluster up --any-port"
        made.take_seats(1, None, is_any_port=True)


KEEPS = """
import sys
from pathlib import Path
from kcluster.processes import ports
ports.locks_path = lambda: Path(sys.argv[1])
kept = ports.KeptPorts()
print(all(kept.keep(int(port)) for port in sys.argv[2:]), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_cluster_keeps(*kept: int) -> Iterator[None]:
    """None of whose brokers listens."""
    command = [sys.executable, "-c", KEEPS, str(ports.locks_path()), *map(str, kept)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "True\n"
        yield
        other.stdin.close()


def test_ports_that_another_cluster_keeps_are_left_alone_until_it_ends() -> None:
    made = claimed()
    made.take_seats(3, None)
    block = [seat.port for seat in made.cluster.seats]
    made.release()
    with another_cluster_keeps(block[1]):
        other = claimed("other")
        other.cluster.seats = []
        other.take_seats(3, None, is_any_port=True)
        assert not set(block) & {seat.port for seat in other.cluster.seats}
        again = Workdir.claim("dev")
        with pytest.raises(UsageError, match=f"port {block[1]} is another cluster's"):
            again.take_seats(3, None)
        again.abandon()
    again = Workdir.claim("dev")
    again.take_seats(3, None)
    assert [seat.port for seat in again.cluster.seats] == block


def test_a_port_is_given_up_with_its_seat(tmp_path: Path) -> None:
    made = claimed()
    made.take_seats(2, None)
    [first, second] = [seat.port for seat in made.cluster.seats]
    made.remove_seat(2)
    with another_cluster_keeps(second):
        command = [sys.executable, "-c", KEEPS, str(tmp_path / "ports"), str(first)]
        done = subprocess.run(command, input="", stdout=PIPE, text=True, check=True)
        assert done.stdout == "False\n"


def test_a_cluster_grows_by_its_directory_and_never_shrinks() -> None:
    made = claimed()
    made.take_seats(2, None)
    ports = [seat.port for seat in made.cluster.seats]
    made.take_seats(3, None)
    assert [seat.port for seat in made.cluster.seats][:2] == ports
    with pytest.raises(UsageError, match="has 3 brokers, not 2"):
        made.take_seats(2, None)


def test_purge_deletes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    made = claimed(directory=tmp_path / "data")
    (tmp_path / "data" / "broker-1").mkdir()
    (tmp_path / "data" / "notes.txt").touch()
    made.purge()
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["notes.txt"]
    assert w.list_clusters() == []


def test_a_seat_that_was_removed_stays_away_and_the_others_keep_their_ids() -> None:
    made = claimed()
    made.take_seats(3, None)
    ports = {seat.id: seat.port for seat in made.cluster.seats}
    made.data_dir(2).mkdir()
    (made.data_dir(2) / "recovery-point-offset-checkpoint").write_text("0\n0\n")
    made.remove_seat(2)
    assert not made.data_dir(2).exists()
    made.release()
    again = Workdir.claim("dev")
    again.take_seats(2, None)
    assert {seat.id: seat.port for seat in again.cluster.seats} == {1: ports[1], 3: ports[3]}
    again.take_seats(3, None)
    assert [seat.id for seat in again.cluster.seats] == [1, 3, 4]


def test_what_was_set_aside_stays_when_its_broker_is_removed() -> None:
    made = claimed()
    made.take_seats(2, None)
    stray = made.data_dir(2) / "orders-0.abc-stray"
    stray.mkdir(parents=True)
    made.remove_seat(2)
    assert stray.is_dir()


def test_fresh_forgets_all_but_the_place(tmp_path: Path) -> None:
    made = claimed(directory=tmp_path / "data")
    made.take_seats(3, None)
    made.save()
    (tmp_path / "data" / "broker-1").mkdir()
    made.release()
    again = Workdir.claim("dev", is_fresh=True)
    assert again.cluster.seats == []
    assert not (tmp_path / "data" / "broker-1").exists()


def test_a_damaged_cluster_file_is_an_error_and_not_a_new_cluster(home: Path) -> None:
    claimed().release()
    (home / "dev" / "cluster.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        Workdir.claim("dev")


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 65])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid cluster name"):
        Workdir.claim(name)


def test_how_a_data_directory_survived(tmp_path: Path) -> None:
    assert survival.restart_kind(tmp_path, "boot 1") == "clean"  # new
    (tmp_path / "orders-0").mkdir()
    assert survival.restart_kind(tmp_path, "boot 1") == "crash"
    assert survival.restart_kind(tmp_path, "boot 2") == "lossy"
    assert survival.restart_kind(tmp_path, "boot 2") == "lossy"  # nobody has heard of it yet
    survival.told(tmp_path, "boot 2")
    assert survival.restart_kind(tmp_path, "boot 2") == "crash"
    (tmp_path / survival.CLEAN_MARKER).touch()
    assert survival.restart_kind(tmp_path, "boot 2") == "clean"
    assert survival.restart_kind(tmp_path, "boot 3") == "clean"


def test_data_of_unknown_origin_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    assert survival.restart_kind(tmp_path, "boot 1") == "lossy"


def test_sockets_get_a_short_private_directory() -> None:
    made = claimed()
    made.open_sockets()
    path = Path(made.cluster.sockets)
    assert path.stat().st_mode & 0o777 == 0o700
    assert len(made.endpoint(99, 2**31)) - len("ipc://") < 107
    made.release()
    assert not path.exists()


def test_brokers_stand_in_racks_in_turn_and_stay_there(home: Path) -> None:
    workdir = Workdir.claim("racked")
    workdir.take_seats(5, None, racks=["a", "b", "c"])
    assert [seat.rack for seat in workdir.cluster.seats] == ["a", "b", "c", "a", "b"]
    workdir.take_seats(6, None)
    assert [seat.rack for seat in workdir.cluster.seats] == ["a", "b", "c", "a", "b", "c"]
    assert workdir.add_seat().rack == "a"
    assert workdir.add_seat("d").rack == "d"
    workdir.take_seats(8, None, racks=[])
    assert {seat.rack for seat in workdir.cluster.seats} == {""}
    workdir.abandon()
