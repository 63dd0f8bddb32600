from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kcluster.errors import UsageError
from kcluster.processes.workdir import holder, read_cluster
from kcluster.wire import control as c
from tests.processes.conftest import ToyCluster, is_alive, wait_until

pytestmark = pytest.mark.live

Toys = Callable[..., ToyCluster]


def misbehave(home: Path, broker: int, manner: str) -> None:
    """See `toy.py`; for the next start of the cluster."""
    data_dir = home / "toys" / f"broker-{broker}"
    data_dir.mkdir(parents=True)
    (home / "toys" / "cluster.json").write_text('{"name":"toys"}')
    (data_dir / "misbehave").write_text(manner)


def test_a_cluster_is_up_when_all_its_servers_are_ready(toys: Toys) -> None:
    cluster = toys(brokers=2).wait_up()
    assert cluster.states() == {0: "running", 1: "running", 2: "running"}
    ready = {line.id for line in cluster.lines if isinstance(line, c.Progress) and line.id >= 0}
    assert ready == {0, 1, 2}


def test_no_process_survives_a_supervisor_killed_while_a_broker_is_paused(toys: Toys) -> None:
    cluster = toys(brokers=3).wait_up()
    pids = cluster.pids()
    with cluster.control() as control:
        control.command(c.Pause([2]))
    os.kill(cluster.launch.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids.values())), "all servers are gone")


def test_the_cluster_comes_back_after_its_supervisor_was_killed(toys: Toys, home: Path) -> None:
    first = toys(brokers=1).wait_up()
    sockets = read_cluster(home / "toys").sockets  # type: ignore[union-attr]
    incarnation = max(i.state.incarnation for i in first.control().describe().processes)
    first.kill()
    second = toys(brokers=1).wait_up()
    assert min(i.state.incarnation for i in second.control().describe().processes) > incarnation
    assert not Path(sockets).exists()


def test_a_foreground_cluster_ends_cleanly_when_its_starter_is_gone(toys: Toys, home: Path) -> None:
    cluster = toys(brokers=1).wait_up()
    pids = cluster.pids()
    cluster.launch.let_go()
    assert cluster.launch.wait(20) == 0
    assert not any(map(is_alive, pids.values()))
    assert holder(home / "toys") is None


def test_stop_and_then_kill_on_its_input_end_even_the_deaf(toys: Toys, home: Path) -> None:
    misbehave(home, 1, "deaf")
    cluster = toys(brokers=1).wait_up()
    cluster.launch.write(b"stop")
    cluster.launch.write(b"kill")
    assert isinstance(cluster.read(until="stopped"), c.Progress)
    assert cluster.launch.wait(20) == 0


def test_a_stop_in_the_same_breath_as_the_start_ends_it(toys: Toys, home: Path) -> None:
    cluster = toys(brokers=2)
    cluster.launch.write(b"stop")
    assert isinstance(cluster.read(until="stopped"), c.Progress)
    assert cluster.launch.wait(20) == 0
    assert not [line for line in cluster.lines if getattr(line, "event", "") == "up"]
    assert holder(home / "toys") is None


def test_a_deaf_broker_is_killed_when_the_time_is_over(toys: Toys, home: Path) -> None:
    misbehave(home, 1, "deaf")
    cluster = toys(brokers=2).wait_up()
    pids = cluster.pids()
    with cluster.control() as control:
        control.command(c.Stop([1], timeout_ms=50))
        assert not is_alive(pids[1])
        control.command(c.Down(timeout_ms=10_000))
    assert cluster.launch.wait(20) == 0


def test_a_broker_killed_by_command_stays_dead_until_it_is_started(toys: Toys) -> None:
    cluster = toys(brokers=2).wait_up()
    with cluster.control() as control:
        done = control.command(c.Kill([1]))
        assert [moment.event for moment in done.moments] == ["signalled", "died"]
        assert cluster.states()[1] == "killed"
        control.command(c.Start([1]))
        assert cluster.states()[1] == "running"


def test_a_broker_killed_by_somebody_else_is_started_again(toys: Toys) -> None:
    cluster = toys(brokers=2).wait_up()
    before = cluster.pids()
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: cluster.pids()[1] not in (0, before[1]), "another process has its seat")
    wait_until(lambda: cluster.states()[1] == "running", "it is ready")


def test_the_policy_no_starts_nobody_again(toys: Toys) -> None:
    cluster = toys(brokers=2, restart="no").wait_up()
    os.kill(cluster.pids()[1], signal.SIGKILL)
    wait_until(lambda: cluster.states()[1] == "failed", "its death is noticed")
    with cluster.control() as control:
        assert control.describe().processes[1].last_end == "SIGKILL"


def test_the_policy_always_brings_back_what_was_killed_by_command(toys: Toys) -> None:
    cluster = toys(brokers=1, restart="always").wait_up()
    before = cluster.pids()
    with cluster.control() as control:
        control.command(c.Kill([1]))
    wait_until(lambda: cluster.pids()[1] not in (0, before[1]), "another process has its seat")


def test_restart_after_starts_the_killed_again(toys: Toys) -> None:
    cluster = toys(brokers=1).wait_up()
    before = cluster.pids()
    with cluster.control() as control:
        control.command(c.Kill([1], restart_after_ms=50))
    wait_until(lambda: cluster.pids()[1] not in (0, before[1]), "another process has its seat")


def test_a_pause_ends_by_itself_when_it_was_given_a_time(toys: Toys) -> None:
    cluster = toys(brokers=1).wait_up()
    with cluster.control() as control:
        control.command(c.Pause([1], for_ms=50))
        assert cluster.states()[1] == "paused"
        with pytest.raises(UsageError, match="paused"):
            control.command(c.Start([1]))
    wait_until(lambda: cluster.states()[1] == "running", "it goes on")


def test_an_unknown_broker_is_refused_with_the_ids_there_are(toys: Toys) -> None:
    cluster = toys(brokers=2).wait_up()
    with cluster.control() as control, pytest.raises(UsageError) as refused:
        control.command(c.Kill([7]))
    assert refused.value.exit_code == 4
    assert refused.value.why == "its brokers are 1, 2"


def test_who_does_not_run_cannot_be_killed(toys: Toys) -> None:
    cluster = toys(brokers=1).wait_up()
    with cluster.control() as control:
        control.command(c.Stop([1]))
        with pytest.raises(UsageError, match="not running") as refused:
            control.command(c.Kill([1]))
    assert "start-broker 1" in refused.value.hint


def test_a_broker_can_be_added(toys: Toys) -> None:
    cluster = toys(brokers=1).wait_up()
    with cluster.control() as control:
        assert control.command(c.AddBroker()).ids == [2]
    assert cluster.states()[2] == "running"


def test_the_others_are_told_a_death_at_once(toys: Toys, home: Path) -> None:
    cluster = toys(brokers=2).wait_up()
    with cluster.control() as control:
        control.command(c.Kill([1]))
    log = home / "toys" / "logs" / "coordinator.log"
    wait_until(lambda: "Died(id=1" in log.read_text(), "the coordinator has heard of it")


def test_a_server_that_ends_at_its_start_shows_its_last_lines(toys: Toys, home: Path) -> None:
    misbehave(home, 1, "exit 3")
    cluster = toys(brokers=2)
    refused = cluster.read()
    assert isinstance(refused, c.Refused)
    assert refused.what == "broker-1 did not start"
    assert "exit 3" in refused.why
    assert "the toy is about to exit" in refused.why
    assert cluster.launch.wait(20) == 1
    assert holder(home / "toys") is None


def test_last_words_say_why_a_server_cannot_go_on(toys: Toys, home: Path) -> None:
    misbehave(home, 1, "refuse")
    refused = toys(brokers=1).read()
    assert isinstance(refused, c.Refused)
    assert "the toy does not want to" in refused.why


def test_a_server_that_is_never_ready_is_given_up(toys: Toys, home: Path) -> None:
    misbehave(home, 1, "slow")
    refused = toys(brokers=1, timeout_ms=300).read()
    assert isinstance(refused, c.Refused)
    assert "not ready in time" in refused.why


def test_two_clusters_run_side_by_side(toys: Toys) -> None:
    one = toys(name="one", brokers=2).wait_up()
    two = toys(name="two", brokers=2).wait_up()
    ports = [
        {info.port for info in cluster.control().describe().processes if info.port}
        for cluster in (one, two)
    ]
    assert not ports[0] & ports[1]
    one.launch.write(b"stop")
    assert one.launch.wait(20) == 0
    assert two.states()[1] == "running"


def test_up_on_a_running_cluster_tells_what_differs(toys: Toys) -> None:
    toys(brokers=2).wait_up()
    same = toys(brokers=2).read()
    assert isinstance(same, c.Running)
    assert same.differences == []
    other = toys(brokers=3, options={"num.partitions": "4"}).read()
    assert isinstance(other, c.Running)
    assert other.differences == [
        "brokers: asked for 3, running with 2",
        "-X num.partitions: asked for 4, running with the default",
    ]


def test_a_directory_in_use_is_refused(toys: Toys, tmp_path: Path) -> None:
    toys(name="one", brokers=1, directory=str(tmp_path / "data")).wait_up()
    refused = toys(name="two", brokers=1, directory=str(tmp_path / "data")).read()
    assert isinstance(refused, c.Refused)
    assert "belongs to cluster one" in refused.what


def test_an_ephemeral_cluster_leaves_nothing(toys: Toys, home: Path) -> None:
    cluster = toys(brokers=1, is_ephemeral=True).wait_up()
    directory = Path(cluster.control().describe().directory)
    assert directory.exists()
    cluster.launch.write(b"stop")
    assert cluster.launch.wait(20) == 0
    assert not directory.exists()
    assert not (home / "toys").exists()


def test_what_a_killed_ephemeral_cluster_left_is_deleted(toys: Toys) -> None:
    first = toys(brokers=1, is_ephemeral=True).wait_up()
    left = Path(first.control().describe().directory)
    first.kill()
    assert left.exists()
    toys(brokers=1).wait_up()
    assert not left.exists()


def test_the_portable_fall_backs_run_a_cluster(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KCLUSTER_PORTABLE", "1")
    cluster = toys(brokers=1).wait_up()
    before = cluster.pids()
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: cluster.pids()[1] not in (0, before[1]), "another process has its seat")
    cluster.launch.write(b"stop")
    assert cluster.launch.wait(20) == 0


def test_servers_outlive_the_zygote_and_new_ones_are_spawned(toys: Toys) -> None:
    cluster = toys(brokers=1).wait_up()
    before = cluster.pids()
    children = Path(f"/proc/{cluster.launch.pid}/task/{cluster.launch.pid}/children")
    [zygote] = {int(pid) for pid in children.read_text().split()} - set(before.values())
    os.kill(zygote, signal.SIGKILL)
    with cluster.control() as control:
        control.command(c.Kill([1]))
        control.command(c.Start([1]))
    assert cluster.pids()[0] == before[0]
    assert cluster.states()[1] == "running"
