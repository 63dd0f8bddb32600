"""Shrinking, on failures that are made up: what is needed stays, what is not goes."""

from collections.abc import Callable

import pytest

from kcluster.errors import UsageError
from kcluster.sim.shrink import Attempt, Shrunk, shrink
from kcluster.sim.trial import Failure, Numbers, Outcome, StrikeTold, Trial

EVERY_MS = 100
"""A strike of the made-up simulations."""


def made_up(cause: Callable[[set[int]], str]) -> Callable[[Trial], Outcome]:
    """A simulation with a strike in each 100 ms that ends as soon as those carried out are a
    `cause`: the kind of a failure."""

    def run(trial: Trial) -> Outcome:
        skipped = Numbers.parse(trial.without)
        done: list[int] = []
        kind = ""
        for number in range(trial.fault_ms // EVERY_MS):
            if number not in skipped:
                done.append(number)
                if kind := cause(set(done)):
                    break
        failure = Failure([kind], f"by {done}") if kind else None
        strikes = [StrikeTold(n, n * EVERY_MS, "kill", []) for n in done]
        return Outcome(trial.seed, digest=str(done), failure=failure, strikes=strikes)

    return run


def shrunk_by(cause: Callable[[set[int]], str], runs_max: int = 500) -> Shrunk:
    return shrink(Trial(7), made_up(cause), runs_max=runs_max)


@pytest.mark.parametrize("needed", [{0}, {3}, {3, 40}, {0, 1, 2}, {5, 17, 18, 60, 99}, set()])
def test_what_is_left_is_what_the_failure_needs(needed: set[int]) -> None:
    shrunk = shrunk_by(lambda done: "lost-write" if done >= (needed or {50}) else "")
    kept = needed or {50}
    assert {strike.number for strike in shrunk.outcome.strikes} == kept
    assert shrunk.trial.fault_ms <= (max(kept) + 1) * EVERY_MS + EVERY_MS
    assert shrunk.is_done
    assert shrunk.is_repeatable


def test_a_failure_without_any_strike_keeps_none() -> None:
    def run(trial: Trial) -> Outcome:
        outcome = made_up(lambda done: "")(trial)
        failure = Failure(["NotReached"], "never")
        return Outcome(7, digest="always", failure=failure, strikes=outcome.strikes)

    shrunk = shrink(Trial(7), run, runs_max=100)
    assert shrunk.outcome.strikes == []
    assert shrunk.trial.without == "0-"


def test_either_of_two_causes_is_enough() -> None:
    shrunk = shrunk_by(lambda done: "lost-write" if done >= {2, 30} or done >= {20, 21} else "")
    assert {strike.number for strike in shrunk.outcome.strikes} in ({2, 30}, {20, 21})


def test_another_failure_on_the_way_does_not_take_its_place() -> None:
    def cause(done: set[int]) -> str:
        if 3 not in done and 5 in done:
            return "invariant 8"
        return "invariant 3" if done >= {3, 40} else ""

    shrunk = shrunk_by(cause)
    assert shrunk.outcome.failure is not None
    assert shrunk.outcome.failure.kinds == ["invariant 3"]
    assert {strike.number for strike in shrunk.outcome.strikes} == {3, 40}


@pytest.mark.parametrize("runs_max", [1, 2, 9])
def test_runs_are_bounded_and_the_smallest_so_far_is_told(runs_max: int) -> None:
    runs = 0
    simulation = made_up(lambda done: "lost-write" if done >= {3, 40, 77} else "")

    def run(trial: Trial) -> Outcome:
        nonlocal runs
        runs += 1
        return simulation(trial)

    shrunk = shrink(Trial(7), run, runs_max=runs_max)
    assert runs == shrunk.runs == runs_max + 1
    assert not shrunk.is_done
    assert shrunk.is_repeatable
    assert {3, 40, 77} <= {strike.number for strike in shrunk.outcome.strikes}


def test_each_run_is_told_and_the_same_again() -> None:
    def told() -> list[Attempt]:
        attempts: list[Attempt] = []
        run = made_up(lambda done: "lost-write" if done >= {3, 40} else "")
        shrink(Trial(7), run, runs_max=200, tell=attempts.append)
        return attempts

    attempts = told()
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert len({attempt.trial for attempt in attempts}) == len(attempts)
    assert attempts == told()


def test_a_story_that_is_not_the_same_twice_is_said_to_be_so() -> None:
    simulation = made_up(lambda done: "lost-write" if 3 in done else "")
    runs = 0

    def run(trial: Trial) -> Outcome:
        nonlocal runs
        runs += 1
        return simulation(trial) if runs <= 10 else Outcome(7, digest="fine")

    shrunk = shrink(Trial(7), run, runs_max=10)
    assert not shrunk.is_repeatable


def test_what_does_not_fail_cannot_be_shrunk() -> None:
    with pytest.raises(UsageError, match="seed 7 does not fail"):
        shrunk_by(lambda done: "")


def test_a_worker_that_died_cannot_be_shrunk() -> None:
    died = Outcome(7, failure=Failure(["died"], "SIGKILL"))
    with pytest.raises(UsageError, match="nothing says which strikes"):
        shrink(Trial(7), lambda trial: died, runs_max=5)


def test_numbers_are_written_as_a_person_writes_them() -> None:
    numbers = Numbers.parse("3, 7-9,12-")
    assert [n for n in range(15) if n in numbers] == [3, 7, 8, 9, 12, 13, 14]
    assert str(numbers) == "3,7-9,12-"
    assert str(Numbers.all_but([0, 2, 3, 7])) == "1,4-6,8-"
    assert str(Numbers.all_but([])) == "0-"
    assert 0 not in Numbers.parse("")
    for text in ("x", "3,", "-4", "3--5"):
        with pytest.raises(UsageError):
            Numbers.parse(text)
