"""`kcluster doctor` and `kcluster env` about a cluster that runs."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.live.conftest import LiveCluster
from tests.live.test_commands import kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def doctor() -> tuple[int, dict[str, Any]]:
    done = kcluster("doctor", "-c", "live", "-o", "json")
    checks = json.loads(done.stdout)["checks"]
    [about] = [check for check in checks if check["check"] == "cluster live"]
    return done.returncode, about


def test_a_dead_broker_is_wrong_and_the_next_command_starts_it(cluster: LiveCluster) -> None:
    assert doctor()[1]["verdict"] == "ok"
    cluster.kill(2)
    code, about = doctor()
    assert (code, about["verdict"]) == (10, "wrong")
    assert "broker 2 is killed" in about["text"]
    assert about["hint"] == "kcluster start-broker 2 -c live"
    text = kcluster("doctor", "-c", "live").stdout
    assert "✗ cluster live" in text and "try: kcluster start-broker 2" in text
    ok(*about["hint"].split()[1:])
    cluster.wait_healthy()
    assert doctor()[1]["verdict"] == "ok"


def test_a_shell_takes_the_environment(cluster: LiveCluster) -> None:
    lines = ok("env", "-c", "live")
    script = f'{lines}\necho "$KAFKA_BOOTSTRAP_SERVERS $KCLUSTER_CLUSTER"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == [cluster.bootstrap, "live"]
    assert all(line.startswith("set -gx ") for line in ok(
        "env", "-c", "live", "--shell", "fish"
    ).splitlines())  # fmt: skip
    found = json.loads(ok("env", "-c", "live", "-o", "json"))["env"]
    assert found["KAFKA_BOOTSTRAP_SERVERS"] == cluster.bootstrap
