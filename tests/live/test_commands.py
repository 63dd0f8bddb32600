"""The commands as a person types them, against real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kcluster.processes.workdir import holder, locate
from tests.live.conftest import LiveCluster
from tests.processes.conftest import is_alive, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

COMMAND_S = 60


def kcluster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kcluster.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def ok(*words: str) -> str:
    done = kcluster(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(kcluster("status", "-c", name, "-o", "json").stdout)
    return found


@pytest.fixture
def named(live_home: Path) -> Iterator[Callable[[str], str]]:
    """A name whose cluster is gone at the end, however the test ends."""
    names: list[str] = []

    def take(name: str) -> str:
        names.append(name)
        return name

    yield take
    for name in names:
        kcluster("purge", "-c", name, "--confirm", name)


@pytest.fixture
def foreground(named: Callable[[str], str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kcluster.cli.main", "up", "-c", named(name), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("127.0.0.1:")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def pids_of(name: str) -> list[int]:
    found = status(name)
    brokers: list[dict[str, int]] = found["brokers"]  # type: ignore[assignment]
    coordinator: dict[str, int] = found["coordinator"]  # type: ignore[assignment]
    supervisor: dict[str, int] = found["supervisor"]  # type: ignore[assignment]
    return [*(broker["pid"] for broker in brokers), coordinator["pid"], supervisor["pid"]]


def test_status_has_the_keys_that_tools_read(cluster: LiveCluster, topic: str) -> None:
    found = status("live")
    assert found["schema"] == 1
    assert found["bootstrap"] == cluster.bootstrap
    assert {"pid", "state", "data_dir"} <= set(found["coordinator"])  # type: ignore[call-overload]
    for broker in found["brokers"]:  # type: ignore[attr-defined]
        assert {"id", "pid", "state", "host", "port", "data_dir", "rss"} <= set(broker)
    [partition] = [p for p in found["partitions"] if p["topic"] == topic]  # type: ignore[attr-defined]
    assert {"topic", "partition", "leader", "leader_epoch", "isr", "replicas"} <= set(partition)
    assert {replica["role"] for replica in partition["replicas"]} == {"leader", "in-sync"}
    for replica in partition["replicas"]:
        assert {"broker", "log_start", "log_end", "high_watermark", "lag", "segments",
                "size"} <= set(replica)  # fmt: skip


def test_the_leader_of_a_partition_is_killed_by_name(cluster: LiveCluster, topic: str) -> None:
    victim = cluster.leader(topic)
    told = json.loads(
        ok("kill-broker", "--leader-of", f"{topic}-0", "-c", "live", "--wait", "elected",
           "-o", "json")
    )  # fmt: skip
    events = [moment["event"] for moment in told["timeline"]]
    assert events == ["signalled", "died", "detected", "elected"]
    assert {moment["id"] for moment in told["timeline"]} == {victim}
    assert cluster.leader(topic) != victim
    shown = kcluster("status", "-c", "live")
    assert shown.returncode == 10
    assert f"broker {victim} is killed" in shown.stdout
    ok("start-broker", str(victim), "-c", "live")
    ok("status", "-c", "live", "--wait-healthy")


def test_a_killed_broker_recovers_by_itself_after_restart_after(
    cluster: LiveCluster, topic: str
) -> None:
    out = ok("kill-broker", "--random", "-c", "live", "--restart-after", "100ms", "--wait",
             "recovered")  # fmt: skip
    assert "recovered" in out


def test_the_coordinator_is_killed_and_started(cluster: LiveCluster, topic: str) -> None:
    ok("kill-broker", "--coordinator", "-c", "live")
    assert status("live")["coordinator"]["state"] == "killed"  # type: ignore[index]
    ok("start-broker", "--coordinator", "-c", "live")
    ok("status", "-c", "live", "--wait-healthy")


def test_stop_pause_resume_and_restart(cluster: LiveCluster) -> None:
    ok("stop-broker", "2", "-c", "live")
    assert cluster.states()[2].state == "stopped"
    ok("restart-broker", "2", "-c", "live")
    assert cluster.states()[2].state == "running"
    ok("pause-broker", "2", "-c", "live")
    assert cluster.states()[2].state == "paused"
    ok("resume-broker", "2", "-c", "live")
    assert cluster.states()[2].state == "running"


def test_an_unknown_broker_is_told_with_the_ids_there_are(cluster: LiveCluster) -> None:
    done = kcluster("kill-broker", "7", "-c", "live")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "error: no broker 7 in cluster live",
        "its brokers are 1, 2, 3",
        "try: kcluster status -c live",
    ]


def test_a_topics_life_from_the_command_line(cluster: LiveCluster) -> None:
    ok("topic", "create", "orders", "-p", "2", "-X", "retention.ms=60000", "-c", "live")
    listed = json.loads(ok("topic", "ls", "-c", "live", "-o", "json"))
    assert {"topic": "orders", "partitions": 2, "replication_factor": 3, "under_replicated": 0,
            "offline": 0} in listed["topics"]  # fmt: skip
    ok("topic", "alter", "orders", "-p", "4", "-X", "retention.ms=70000", "-c", "live")
    described = json.loads(ok("topic", "describe", "orders", "-c", "live", "-o", "json"))
    assert described["configs"] == {"retention.ms": "70000"}
    assert len(described["partitions"]) == 4
    ok("topic", "delete", "orders", "-c", "live")
    assert kcluster("topic", "describe", "orders", "-c", "live").returncode == 4


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (("create", "bad/name"), 1, "INVALID_TOPIC_EXCEPTION"),
        (("create", "wide", "-r", "9"), 1, "INVALID_REPLICATION_FACTOR"),
        (("create", "odd", "-X", "retention.ms=soon"), 1, "INVALID_CONFIG"),
        (("create", "odd", "-X", "cleanup.policy=shrink"), 1, "delete, compact"),
        (("delete", "never-made"), 4, "UNKNOWN_TOPIC_OR_PARTITION"),
        (("alter", "never-made", "-p", "3"), 4, "UNKNOWN_TOPIC_OR_PARTITION"),
    ],
)
def test_a_topic_that_cannot_be_is_refused_with_kafkas_reason(
    cluster: LiveCluster, words: tuple[str, ...], exit_code: int, says: str
) -> None:
    done = kcluster("topic", *words, "-c", "live")
    assert done.returncode == exit_code, done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("error: ")


def test_logs_tell_what_the_processes_did(cluster: LiveCluster, topic: str) -> None:
    text = ok("logs", "-c", "live", "-n", "500")
    assert "BecameLeader" in text
    assert "coordinator" in text
    only = ok("logs", "2", "-c", "live")
    assert all(" broker-2 " in line for line in only.splitlines())


def test_up_detached_returns_when_writes_are_taken(named: Callable[[str], str]) -> None:
    name = named("quick")
    bootstrap = ok("up", "-n", "2", "-d", "-c", name, "--topic", "orders:3:2").strip()
    assert len(bootstrap.split(",")) == 2
    found = status(name)
    assert found["health"] == "ok"
    assert len(found["partitions"]) == 3  # type: ignore[arg-type]
    again = kcluster("up", "-n", "2", "-d", "-c", name)
    assert again.returncode == 0
    assert again.stdout.strip() == bootstrap
    differs = kcluster("up", "-n", "3", "-d", "-c", name)
    assert differs.returncode == 1
    assert "brokers: asked for 3, running with 2" in differs.stderr
    ok("down", "-c", name)
    assert kcluster("status", "-c", name).returncode == 3
    ok("up", "-d", "-c", name)
    assert status(name)["bootstrap"] == bootstrap
    assert len(status(name)["partitions"]) == 3  # type: ignore[arg-type]


def test_metrics_are_served_as_long_as_the_cluster_runs(named: Callable[[str], str]) -> None:
    name = named("measured")
    up = kcluster("up", "-n", "1", "-d", "--any-port", "-c", name, "--metrics", "0")
    assert up.returncode == 0, up.stderr
    [url] = re.findall(r"^metrics: (http://.*)$", up.stderr, re.MULTILINE)
    with urllib.request.urlopen(url, timeout=30) as response:
        assert b"kafka_brokers 1.0\n" in response.read()
    port = str(urllib.parse.urlsplit(url).port)
    taken = kcluster("up", "-d", "-c", name, "--metrics", port)
    assert taken.returncode == 1
    what, why, hint = taken.stderr.splitlines()[-3:]
    assert what == "error: metrics are not served"
    assert why == f"port {port} of 127.0.0.1 cannot be used"
    assert hint == f"try: kcluster metrics -c {name} --port {port}"
    ok("down", "-c", name)
    wait_until(lambda: not is_listening(int(port)), "metrics end with the cluster")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_ctrl_c_once_ends_the_cluster_cleanly(
    foreground: Callable[..., subprocess.Popen[str]],
) -> None:
    process = foreground("once", "-n", "1")
    pids = pids_of("once")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 0
    assert "stopping; Ctrl-C again kills" in errors
    assert "cluster once is down" in errors
    assert not any(map(is_alive, pids))
    assert (locate("once") / "broker-1" / ".kafka_cleanshutdown").exists()


def test_ctrl_c_twice_kills(foreground: Callable[..., subprocess.Popen[str]]) -> None:
    process = foreground("twice", "-n", "1")
    pids = pids_of("twice")
    os.kill(pids[0], signal.SIGSTOP)  # it cannot end cleanly
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=COMMAND_S)
    assert process.returncode == 0
    assert not any(map(is_alive, pids))


def test_nothing_is_left_when_a_foreground_up_is_killed(
    foreground: Callable[..., subprocess.Popen[str]],
) -> None:
    process = foreground("orphan", "-n", "1")
    pids = pids_of("orphan")
    process.kill()
    wait_until(lambda: not any(map(is_alive, pids)), "supervisor and servers are gone")
    assert holder(locate("orphan")) is None


def test_a_port_in_use_names_its_holder_and_the_way_out(named: Callable[[str], str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = kcluster("up", "-d", "-c", named("busy"), "-n", "1", "--port", str(port))
    assert done.returncode == 1
    what, why, hint = done.stderr.splitlines()
    assert what.startswith(f"error: port {port} is in use (pid {os.getpid()}, ")
    assert (why, hint) == ("broker 1 needs it", "try: kcluster up --any-port")
    assert done.stdout == ""


def test_purge_wants_to_be_confirmed(named: Callable[[str], str]) -> None:
    name = named("doomed")
    ok("up", "-n", "1", "-d", "-c", name)
    directory = locate(name)
    assert kcluster("purge", "-c", name).returncode == 1
    assert kcluster("purge", "-c", name, "--confirm", "other").returncode == 2
    ok("purge", "-c", name, "--confirm", name)
    assert not directory.exists()
