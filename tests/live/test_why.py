"""Kills and what they cause, against real processes: the timeline, the causes, the check."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.live.conftest import LiveCluster
from tests.live.test_commands import COMMAND_S, kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

Told = dict[str, Any]

ORDER = [
    "signalled", "died", "detected", "elected", "first_write", "registered", "in_sync", "recovered",
]  # fmt: skip


def kill(*words: str) -> Told:
    told: Told = json.loads(ok("kill-broker", "-c", "live", "-o", "json", *words))
    return told


def history(topic: str, *words: str) -> Told:
    told: Told = json.loads(ok("why", f"{topic}-0", "-c", "live", "-o", "json", *words))
    return told


def test_the_timeline_of_a_kill_is_whole_and_in_order_and_why_names_its_cause(
    cluster: LiveCluster, topic: str
) -> None:
    victim = cluster.leader(topic)
    with subprocess.Popen(
        [sys.executable, "-m", "kcluster.cli.main", "load", "-c", "live", "-t", topic,
         "--duration", "0", "--rate", "500", "-q"],
        stdout=subprocess.DEVNULL,
    ) as load:  # fmt: skip
        try:
            cluster.wait(lambda status: written(cluster, topic) > 100, "the load writes")
            told = kill(str(victim), "--wait", "recovered", "--restart-after", "200ms")
        finally:
            load.send_signal(signal.SIGINT)
            assert load.wait(COMMAND_S) == 0
    steps = told["timeline"]
    assert told["reached"] == "recovered"
    assert [step["event"] for step in steps] == ORDER
    assert {step["id"] for step in steps} == {victim}
    times = [step["ms"] for step in steps]
    assert times == sorted(times)
    by_name = {step["event"]: step for step in steps}
    assert by_name["elected"]["partitions"] >= 1
    assert 0 < by_name["elected"]["first_ms"] <= by_name["elected"]["ms"]
    assert by_name["in_sync"]["partitions"] >= 1
    assert not any(step["is_late"] for step in steps)

    found = history(topic)
    assert found["is_whole"]
    changes = found["changes"]
    [elected] = [change for change in changes if change["kind"] == "leader"][:1]
    assert elected["text"].startswith(f"leader {victim} → {elected['leader']}, epoch 0 → 1")
    assert elected["causes"][0].startswith(f"broker {victim} was fenced ")
    assert elected["causes"][1] == "SIGKILL by kill-broker"
    isr = [change for change in changes if change["kind"] == "isr"]
    assert isr[0]["causes"] == elected["causes"]
    assert sorted(isr[-1]["isr"]) == [1, 2, 3]
    assert isr[-1]["causes"][0].startswith(f"broker {victim} caught up, ")
    committed = [change for change in changes if change["kind"] == "committed"]
    assert committed[-1]["high_watermark"] > committed[0]["high_watermark"] > 0
    shown = ok("why", f"{topic}-0", "-c", "live")
    assert f"{elected['text']}: {': '.join(elected['causes'])}" in shown
    assert "cause not in the journal" not in shown


def written(cluster: LiveCluster, topic: str) -> int:
    return sum(
        replica.log_end or 0
        for found in cluster.status().partitions
        if found.topic == topic
        for replica in found.replicas
        if replica.role == "leader"
    )


def test_a_pause_is_the_cause_of_what_follows(cluster: LiveCluster, topic: str) -> None:
    victim = cluster.leader(topic)
    cluster.pause(victim)
    cluster.wait(lambda status: cluster.leader(topic) not in (victim, -1), "another one leads")
    cluster.resume(victim)
    cluster.wait_healthy()
    changes = history(topic)["changes"]
    [elected] = [change for change in changes if change["kind"] == "leader"][:1]
    assert f"broker {victim} was fenced: not heard of for " in elected["causes"][0]
    assert elected["causes"][1].startswith("paused by pause-broker since ")
    back = [change for change in changes if change["kind"] == "isr"][-1]
    assert sorted(back["isr"]) == [1, 2, 3]
    assert back["causes"][0].startswith(f"broker {victim} caught up, ")


def test_a_kill_of_the_coordinator_is_followed_until_it_serves(
    cluster: LiveCluster, topic: str
) -> None:
    told = kill("--coordinator", "--wait", "recovered", "--restart-after", "50ms")
    assert [step["event"] for step in told["timeline"]] == ["signalled", "died", "recovered"]


def test_a_kill_of_coordinator_and_leader_together_is_followed(
    cluster: LiveCluster, topic: str
) -> None:
    victim = cluster.leader(topic)
    told = kill("--coordinator", str(victim), "--wait", "recovered", "--restart-after", "50ms")
    assert told["reached"] == "recovered"
    steps = {step["event"] for step in told["timeline"] if step["id"] == victim}
    assert {"signalled", "died", "detected", "elected", "registered", "recovered"} <= steps
    cluster.wait_healthy()
    assert cluster.leader(topic) > 0


def test_who_leads_nothing_is_noticed_all_the_same(
    own_cluster: Callable[..., LiveCluster],
) -> None:
    made = own_cluster("idle", brokers=2)
    told = json.loads(ok("kill-broker", "2", "-c", "idle", "--wait", "elected", "-o", "json"))
    elected = told["timeline"][-1]
    assert (elected["event"], elected["partitions"], elected["first_ms"]) == ("elected", 0, None)
    # It stays dead: time runs out, and what is known by then is told.
    made.start(2)
    done = kcluster(
        "kill-broker", "2", "-c", "idle", "--wait", "recovered", "--restart-after", "1h",
        "--timeout", "1s",
    )  # fmt: skip
    assert done.returncode == 124
    assert [line.split()[-1] for line in done.stdout.splitlines()[:2]] == ["signalled", "died"]
    assert done.stderr.splitlines() == [
        "error: not recovered after 1.0 s",
        "it got as far as elected: broker 2 is not back",
        "try: kcluster status -c idle",
    ]


def test_random_kills_under_a_checked_load_lose_nothing(cluster: LiveCluster) -> None:
    told = kill(
        "--random", "--times", "3", "--interval", "0", "--restart-after", "100ms", "--wait",
        "recovered", "--check", "--seed", "7",
    )  # fmt: skip
    assert (told["schema"], told["seed"], told["is_interrupted"]) == (1, 7, False)
    assert len(told["kills"]) == 3
    for each in told["kills"]:
        assert 0 < each["detected_ms"] <= each["elected_ms"] < each["recovered_ms"]
    assert told["summary"]["recovered"]["kills"] == 3
    assert told["summary"]["detected"]["p50_ms"] <= told["summary"]["detected"]["worst_ms"]
    check = told["check"]
    assert (check["verdict"], check["lost"], check["anomalies"]) == ("ok", 0, {})
    assert check["acknowledged"] > 0


def test_ctrl_c_ends_repeated_kills_with_their_report(cluster: LiveCluster) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kcluster.cli.main", "kill-broker", "-c", "live", "--random",
         "--times", "9", "--interval", "1h", "--restart-after", "100ms", "--wait", "recovered",
         "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("kill 1 of 9  broker ")
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130
    assert rest.splitlines()[0] == "1 of 9 kills, --seed 1"
    assert "--seed 1 makes the same choices again" in errors
    assert "Traceback" not in errors


def test_a_partition_that_never_was_is_unknown(cluster: LiveCluster, topic: str) -> None:
    done = kcluster("why", f"{topic}-1", "-c", "live")
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == f"error: there is no partition {topic}-1"
    assert ok("why", f"{topic}-0", "-c", "live", "--since", "0").splitlines()[1:] == []
