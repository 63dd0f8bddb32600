"""`kcluster sim`: seeds, workers and mutants as a person has them; short fault phases."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kcluster.cli import main, output
from kcluster.sim.trial import Outcome, Trial, mutants, run

SHORT = ["--fault-ms", "500"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(output, "_is_quiet", False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main.run(["sim", "-o", "json", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, json.loads(captured.out)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 50) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.05)


# --- one seed ---------------------------------------------------------------------------------


def test_a_seed_that_holds_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "--seed", "3", *SHORT]) == 0
    assert capsys.readouterr().out.startswith("seed 3: everything holds; ")


def test_a_trace_has_a_line_for_each_state_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "--seed", "3", "--trace", *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1) == ["0", "start 0 incarnation 1 clean"]
    assert any("BecameLeader(topic='orders'" in line for line in lines)
    assert next(line for line in lines if line.startswith("seed 3: everything holds"))


def test_a_seed_in_json_has_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = as_json(capsys, "--seed", "3", "--without", "0-1", *SHORT)
    assert code == 0
    assert found["schema"] == 1
    assert found["failure"] is None
    assert found["replay"] == "kcluster sim --seed 3 --fault-ms 500 --without 0-1"
    assert {"seed", "digest", "steps", "simulated_ms", "faults", "reached"} <= found.keys()


# --- mutants ----------------------------------------------------------------------------------


def caught() -> tuple[Trial, Outcome]:
    """A trial of some mutant that fails after a few strikes, with its outcome."""
    for name in mutants():
        for seed in range(1, 4):
            trial = Trial(seed, 4000, mutant=name)
            outcome = run(trial)
            if outcome.failure is not None and len(outcome.strikes) > 3:
                return trial, outcome
    raise AssertionError("no mutant is caught")


@pytest.mark.timeout(300)
def test_a_mutants_seed_is_shrunk_and_replays(capsys: pytest.CaptureFixture[str]) -> None:
    trial, whole = caught()
    code, small = as_json(
        capsys, *shlex.split(trial.command())[2:], "--shrink", "--shrink-runs", "12"
    )
    assert code == 11
    assert small["is_repeatable"]
    assert small["first"]["digest"] == whole.digest
    assert len(small["strikes"]) < len(whole.strikes)
    assert whole.failure is not None
    assert set(small["failure"]["kinds"]) & set(whole.failure.kinds)

    kcluster, sim, *again = shlex.split(small["replay"])
    assert (kcluster, sim) == ("kcluster", "sim")
    code, replayed = as_json(capsys, *again)
    assert code == 11
    same = ("digest", "failure", "strikes", "steps", "mutant")
    assert [replayed[key] for key in same] == [small[key] for key in same]


def test_a_seed_that_holds_cannot_be_shrunk(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "--seed", "3", "--shrink", *SHORT]) == 1
    assert "seed 3 does not fail" in capsys.readouterr().err


def test_mutants_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "--mutant", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in mutants())
    code, found = as_json(capsys, "--mutant", "list")
    assert code == 0
    assert [each["name"] for each in found["mutants"]] == list(mutants())


def test_an_unknown_mutant_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "--seed", "1", "--mutant", "no such bug"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no mutant 'no such bug'")
    assert all(name in said for name in mutants())


# --- many seeds -------------------------------------------------------------------------------


def test_a_seed_that_is_done_is_not_run_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "seeds"
    code, found = as_json(capsys, "--seeds", "2", "--resume", str(path), *SHORT)
    assert (code, found["seeds"], found["seeds_now"]) == (0, 2, 2)
    code, found = as_json(capsys, "--seeds", "3", "--resume", str(path), *SHORT)
    assert (code, found["seeds"], found["seeds_now"]) == (0, 3, 1)
    assert sorted(json.loads(line)["seed"] for line in path.read_text().splitlines()[1:]) == [
        1, 2, 3,
    ]  # fmt: skip
    _, again = as_json(capsys, "--seeds", "3", "--resume", str(path), *SHORT)
    assert again["seeds_now"] == 0
    same = ("steps", "simulated_ms", "faults", "reached", "failures")
    assert [again[key] for key in same] == [found[key] for key in same]


def test_many_seeds_in_json_have_a_schema(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    code, found = as_json(capsys, "--seeds", "1", "--from", "3", "-j", "1", *SHORT)
    assert code == 0
    assert found["schema"] == 1
    assert (found["first_seed"], found["seeds_wanted"], found["failures"]) == (3, 1, [])
    assert found["steps"] > 0
    assert 0 in found["faults"].values()
    assert list((state / "kcluster" / "sim").iterdir()) == []


def test_a_seed_that_takes_too_long_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = as_json(capsys, "--seeds", "1", "--timeout", "1ms")
    assert code == 11
    [failed] = found["failures"]
    assert failed["kinds"] == ["hung"]
    assert failed["replay"] == "kcluster sim --seed 1"


def test_ctrl_c_sums_up_and_lets_the_rest_be_done_later(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "seeds"
    command = ["--seeds", "1000", "-j", "2", "--resume", str(path), *SHORT]
    process = subprocess.Popen(
        [sys.executable, "-m", "kcluster.cli.main", "sim", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until(lambda: path.exists() and path.read_text().count("\n") > 1, "a seed is done")
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "of 1,000 seeds from 1, 0 failed" in out
    assert "go on: kcluster sim --seeds 1000 --from 1" in err
    assert workers
    assert not any(worker.is_running() for worker in workers)
    done = path.read_text().count("\n") - 1
    _, found = as_json(capsys, "--seeds", "1", "--resume", str(path), *SHORT)
    assert done >= 1
    assert found["seeds"] == 1


# --- wrong use --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no seed"),
        ("--seed 1 --seeds 2", "--seed and --seeds exclude each other"),
        ("--seed 0 --seeds 2", "--seed and --seeds exclude each other"),
        ("--seed 0 --from 0", "--seed and --from exclude each other"),
        ("--seeds 2 --trace", "--trace and --seeds exclude each other"),
        ("--seed 2 --jobs 2", "--seed and --jobs exclude each other"),
        ("--seed 2 --trace --shrink", "--trace and --shrink exclude each other"),
        ("--seed 2 --shrink-runs 3", "--shrink-runs without --shrink"),
        ("--seed 2 --without x", "'x' is not a number of a strike"),
        ("--seeds 2 --resume /no/such/directory/file", "cannot open"),
        ("--seeds 2 --timeout soon", "is not a time"),
        ("--seeds 0", "0"),
    ],
)
def test_wrong_use_says_what_and_what_next(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["sim", *line.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert len(captured.err.splitlines()) <= 3


def test_help_comes_without_the_simulation() -> None:
    code = (
        "import sys; from kcluster.cli import main; main.run(['sim', '--help']);"
        "print([m for m in sys.modules if m.startswith('kcluster.sim')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "kcluster sim --seed 7 --trace" in done.stdout
