"""Many trials at once: what a worker does to itself is its seed's failure, and of no other."""

import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from kcluster.errors import UsageError
from kcluster.sim.results import Header, ResultsFile, summarize
from kcluster.sim.runner import WorkerFailed, Workers
from kcluster.sim.trial import DIED, HUNG, Failure, Outcome, Trial, in_words, run

LIMIT_S = 50.0
TOY = """
import os, signal, sys
print("ready", flush=True)
for line in sys.stdin:
    seed = int(line.split('"seed":')[1].split(",")[0].rstrip("}\\n"))
    if seed == 2:
        print("waits for what never comes", file=sys.stderr, flush=True)
        signal.pause()
    if seed == 3:
        print("out of memory, say", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print('{"seed":%d,"digest":"toy"}' % seed, flush=True)
"""
"""A worker without a simulation: seed 2 hangs, seed 3 dies."""


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def toys(jobs: int, limit_s: float) -> Workers:
    return Workers(jobs, limit_s, command=(sys.executable, "-c", TOY))


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_a_worker_that_hangs_or_dies_is_the_failure_of_its_own_seed(jobs):
    before = children()
    with toys(jobs, 3.0) as workers:
        told = {trial.seed: out for trial, out in workers.run([Trial(seed) for seed in range(8)])}
    assert sorted(told) == list(range(8))
    assert {seed: out.failure.kinds for seed, out in told.items() if out.failure} == {
        2: [HUNG],
        3: [DIED],
    }
    assert "waits for what never comes" in told[2].failure.message
    assert "SIGKILL" in told[3].failure.message
    assert "out of memory, say" in told[3].failure.message
    assert children() == before


def test_a_run_that_is_left_leaves_no_worker_behind():
    before = children()
    with toys(2, LIMIT_S) as workers:
        next(workers.run([Trial(seed) for seed in (0, 2, 2)]))
        assert len(children()) > len(before)
    assert children() == before


def test_a_run_after_one_that_was_left_has_outcomes_of_its_own():
    with toys(2, LIMIT_S) as workers:
        next(workers.run([Trial(seed) for seed in (0, 2, 2)]))
        assert [out.seed for _, out in workers.run([Trial(7)])] == [7]


def test_workers_that_cannot_start_are_nobodys_failure():
    command = (sys.executable, "-c", "raise SystemExit('no simulation here')")
    with (
        Workers(2, LIMIT_S, command=command) as workers,
        pytest.raises(WorkerFailed, match="no simulation here"),
    ):
        list(workers.run([Trial(1)]))


def test_a_worker_tells_the_story_that_this_process_tells():
    trials = [Trial(seed, fault_ms=500) for seed in (5, 6)]
    with Workers(2, LIMIT_S) as workers:
        told = dict(workers.run(trials))
    assert told == {trial: run(trial) for trial in trials}


STARTER = """
import subprocess, sys
worker = subprocess.Popen(
    [sys.executable, "-m", "kcluster.sim.worker", "600"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
)
worker.stdout.readline()
worker.stdin.write(b'{"seed":1,"fault_ms":3600000}\\n')
worker.stdin.flush()
print(worker.pid, flush=True)
worker.wait()
"""
"""Gives a worker an hour of simulated time."""


def test_a_worker_does_not_outlive_its_starter():
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdout=subprocess.PIPE, start_new_session=True
    )
    with starter:
        assert starter.stdout is not None
        worker = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    try:
        assert psutil.wait_procs([worker], 20)[1] == []
    finally:
        if worker.is_running():
            worker.kill()


def test_a_strike_is_told_with_what_it_did():
    class Strike:
        number, at_ms, kind = 4, 2232, "power"

    journal = [
        "   2230 group-0/0 stands still",
        "   2232 0 Elected(topic='orders', partition=0)",
        "   2232 lose power 0",
        "   2232 ended 0 incarnation 1: killed",
        "   2232 group-0/1 generation 3: []",
        "   2232 lose power 1",
        "   2540 start 0 incarnation 5 lossy",
    ]
    [told] = in_words([Strike], journal)
    assert (told.number, told.did) == (4, ["lose power 0", "lose power 1"])


# --- results ----------------------------------------------------------------------------------

HEADER = Header("code", 12_000, "")


def test_results_are_there_again_and_a_torn_one_is_not(tmp_path: Path):
    path = tmp_path / "seeds"
    bad = Outcome(2, digest="b", failure=Failure(["invariant 3"], "it differs"))
    with ResultsFile.open(path, HEADER) as results:
        results.add(Outcome(1, digest="a", steps=10))
        results.add(bad)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(Outcome(3, digest="c"))[:-5])
    with ResultsFile.open(path, HEADER) as results:
        assert results.outcomes == {1: Outcome(1, digest="a", steps=10), 2: bad}
        results.add(Outcome(3, digest="again"))
    with ResultsFile.open(path, HEADER) as results:
        assert [out.digest for out in results.outcomes.values()] == ["a", "b", "again"]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Header("new code", 12_000, ""), "the code has changed"),
        (Header("code", 500, ""), "--fault-ms 12000 then, 500 now"),
        (Header("code", 12_000, "KIP-101"), "--mutant 'none' then, 'KIP-101' now"),
    ],
)
def test_results_of_another_run_are_refused(tmp_path: Path, other: Header, why: str):
    ResultsFile.open(tmp_path / "seeds", HEADER).close()
    with pytest.raises(UsageError) as refused:
        ResultsFile.open(tmp_path / "seeds", other)
    assert why in refused.value.why


@pytest.mark.parametrize("content", [b"a diary\n", b"a diary", b'{"seed":1}\n'])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes):
    path = tmp_path / "diary"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no results"):
        ResultsFile.open(path, HEADER)
    assert path.read_bytes() == content


def test_two_runs_do_not_share_a_file(tmp_path: Path):
    with (
        ResultsFile.open(tmp_path / "seeds", HEADER),
        pytest.raises(UsageError, match="is in use"),
    ):
        ResultsFile.open(tmp_path / "seeds", HEADER)


def test_a_summary_counts_the_seeds_that_are_wanted_and_names_what_never_happened():
    outcomes = [
        Outcome(
            2,
            digest="b",
            steps=20,
            simulated_ms=200,
            faults={"kill": 2},
            failure=Failure(["duplicate"], "twice"),
        ),
        Outcome(
            1, digest="a", steps=10, simulated_ms=100, faults={"kill": 1}, reached={"Truncated": 3}
        ),
        Outcome(9, digest="c", steps=90, simulated_ms=900, faults={"kill": 9}),
    ]
    summary = summarize(Trial(0, mutant="a mutant"), range(1, 4), outcomes, 1, 2.0)
    assert (summary.seeds, summary.seeds_wanted, summary.seeds_now) == (2, 3, 1)
    assert (summary.steps, summary.simulated_ms, summary.seeds_per_minute) == (30, 300, 30.0)
    assert summary.faults["kill"] == 3
    assert summary.faults["pause"] == 0
    assert summary.reached["Truncated"] == 3
    [failed] = summary.failures
    assert failed.replay == "kcluster sim --seed 2 --mutant 'a mutant'"
