"""Of a failing seed, a small one: few strikes in a short fault phase that fail the same way.

    halve     the fault phase, as long as that still fails: all further runs are shorter
    drop      delta debugging: strikes are left out, all of them, then halves, ... single ones
    shorten   the fault phase, between what still fails and what does not
    again     drop and shorten, until neither helps or the runs are used up

A strike that is left out changes nothing that the others draw; a length of the fault phase may
change what clients draw, and so it is only believed when it is run. "The same way" is one kind of
the first failure: another bug on the way does not take its place.

Source: Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input (2002), its
reduction to complements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from kcluster.errors import UsageError
from kcluster.sim.trial import Failure, Numbers, Outcome, Trial

FAULT_GRAIN_MS = 50
"""A fault phase is not shortened by less."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run on the way."""

    number: int
    """From 1."""
    trial: Trial
    strikes: int
    """That were to be carried out."""
    fails: bool
    """In the same way."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    first: Outcome
    """Of the trial as it was."""
    trial: Trial
    outcome: Outcome
    """Of `trial`: run as it stands there."""
    runs: int
    is_done: bool
    """Not so when the runs were used up before."""
    is_repeatable: bool
    """Not so when the last run, of the same trial, failed in another way or not at all."""


def shrink(
    trial: Trial,
    run: Callable[[Trial], Outcome],
    *,
    runs_max: int,
    tell: Callable[[Attempt], None] = lambda attempt: None,
) -> Shrunk:
    """UsageError when the trial does not fail. One run more than `runs_max` confirms the end."""
    return _Shrinking(trial, run, runs_max, tell).result()


class _Shrinking:
    def __init__(
        self,
        trial: Trial,
        run: Callable[[Trial], Outcome],
        runs_max: int,
        tell: Callable[[Attempt], None],
    ) -> None:
        self._trial = trial
        self._run = run
        self._runs_max = runs_max
        self._tell = tell
        self.runs = 1
        self.first = run(trial)
        if self.first.failure is None:
            raise UsageError(
                f"seed {trial.seed} does not fail", "there is nothing to shrink",
                "kcluster sim --seeds 100",
            )  # fmt: skip
        if not self.first.digest:
            raise UsageError(
                f"seed {trial.seed} {self.first.failure.kinds[0]}: nothing says which strikes it "
                "had carried out", "without them it cannot be shrunk", trial.command("--trace"),
            )  # fmt: skip
        self._target: Failure = self.first.failure
        self.fault_ms = trial.fault_ms
        self.kept = [strike.number for strike in self.first.strikes]
        self._tell(Attempt(1, trial, len(self.kept), True))
        self._failed: dict[tuple[int, tuple[int, ...]], list[int] | None] = {}
        """Strikes carried out until the same failure, of each that was tried."""

    def result(self) -> Shrunk:
        is_done = False
        while self.fault_ms > FAULT_GRAIN_MS and self._fails(self.fault_ms // 2, self.kept):
            pass
        while not is_done and self._runs_left:
            before = self.fault_ms, self.kept
            self._drop()
            self._shorten()
            is_done = before == (self.fault_ms, self.kept) and self._runs_left
        trial = self._candidate(self.fault_ms, self.kept)
        outcome = self._run(trial)
        is_repeatable = outcome.failure is not None and outcome.failure.is_like(self._target)
        return Shrunk(self.first, trial, outcome, self.runs + 1, is_done, is_repeatable)

    @property
    def _runs_left(self) -> bool:
        return self.runs < self._runs_max

    def _candidate(self, fault_ms: int, kept: Iterable[int]) -> Trial:
        without = str(Numbers.all_but(kept))
        return msgspec.structs.replace(self._trial, fault_ms=fault_ms, without=without)

    def _fails(self, fault_ms: int, kept: list[int]) -> bool:
        """Whether it still fails the same way; then it is the smallest so far."""
        key = fault_ms, tuple(kept)
        if key not in self._failed:
            if not self._runs_left:
                return False
            trial = self._candidate(*key)
            self.runs += 1
            outcome = self._run(trial)
            is_same = outcome.failure is not None and outcome.failure.is_like(self._target)
            done = [strike.number for strike in outcome.strikes]
            self._failed[key] = done if is_same else None
            self._tell(Attempt(self.runs, trial, len(kept), is_same))
        found = self._failed[key]
        if found is None:
            return False
        self.fault_ms, self.kept = fault_ms, found
        return True

    def _shorten(self) -> None:
        too_short, long_enough = 0, self.fault_ms
        while long_enough - too_short > FAULT_GRAIN_MS:
            middle = (too_short + long_enough) // 2
            if self._fails(middle, self.kept):
                long_enough = middle
            elif self._runs_left:
                too_short = middle
            else:
                return

    def _drop(self) -> None:
        size = len(self.kept)
        while size:
            index = 0
            while index < len(self.kept):
                if not self._fails(self.fault_ms, self.kept[:index] + self.kept[index + size :]):
                    index += size
            size //= 2
