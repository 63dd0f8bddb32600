from __future__ import annotations

import signal

import pytest

from kcluster.processes.roster import (
    BACKOFF_FIRST_MS,
    BACKOFF_MAX_MS,
    HEALTHY_MS,
    ServerProcess,
    end_text,
)

EXIT_1 = 1 << 8


def started(now_ms: int = 0) -> ServerProcess:
    process = ServerProcess(1)
    process.launched(1, now_ms, now_ms)
    process.pid = 77
    return process


@pytest.mark.parametrize(
    ("policy", "status", "doom", "comes_back", "state"),
    [
        ("no", signal.SIGKILL, "", False, "failed"),
        ("no", 0, "", False, "stopped"),
        ("on-failure", signal.SIGKILL, "", True, "failed"),
        ("on-failure", EXIT_1, "", True, "failed"),
        ("on-failure", 0, "", False, "stopped"),
        ("on-failure", signal.SIGKILL, "killed", False, "killed"),
        ("on-failure", 78 << 8, "", False, "failed"),
        ("always", 0, "", True, "stopped"),
        ("always", signal.SIGKILL, "killed", True, "killed"),
        ("always", 0, "stopped", False, "stopped"),
    ],
)
def test_who_comes_back_by_policy_and_cause(
    policy: str, status: int, doom: str, comes_back: bool, state: str
) -> None:
    process = started()
    process.doom = doom
    assert (process.died(status, policy, 10, 10) is not None) == comes_back
    assert process.state == state
    assert not process.is_alive


def test_the_back_off_doubles_up_to_its_bound() -> None:
    process = started()
    delays = []
    for now_ms in range(12):
        delays.append(process.died(EXIT_1, "on-failure", now_ms, now_ms))
        process.launched(2, now_ms, now_ms)
    assert delays[:3] == [BACKOFF_FIRST_MS, 2 * BACKOFF_FIRST_MS, 4 * BACKOFF_FIRST_MS]
    assert delays[-1] == BACKOFF_MAX_MS


def test_who_ran_for_long_is_started_again_at_once() -> None:
    process = started()
    process.failures = 5
    assert process.died(EXIT_1, "on-failure", HEALTHY_MS, 0) == BACKOFF_FIRST_MS


def test_an_end_is_told_by_the_signals_name() -> None:
    assert end_text(signal.SIGKILL) == "SIGKILL"
    assert end_text(3 << 8) == "exit 3"
