"""One seed as it is asked for, run and judged: what workers are sent and what they send back.

    Trial      seed, length of the fault phase, strikes left out, mutant
    run()      in this process; nothing that a simulation raises gets out
    Outcome    what happened; with a `failure` when an invariant or the history says no

Both are lines of JSON, so that the file of a run that is resumed holds them as they are.
"""

from __future__ import annotations

import contextlib
import math
import re
import shlex
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Self

import msgspec

from kcluster.check.seen import InvariantViolated
from kcluster.errors import UsageError
from kcluster.sim.cluster import NotReached, StepLimit
from kcluster.sim.faults import KINDS, Strike
from kcluster.sim.group_mutants import GROUP_MUTANTS
from kcluster.sim.mutants import MUTANTS, Mutant
from kcluster.sim.rare import RARE_STATES
from kcluster.sim.simulation import Simulation, Story

FAULT_MS = 12_000
"""Simulated milliseconds of the fault phase, unless told otherwise."""

MESSAGE_MAX = 4000
"""Characters of a failure's message that are kept."""

HUNG = "hung"
DIED = "died"
"""Kinds of failures that no simulation can tell itself."""


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """One simulation as it is asked for."""

    seed: int
    fault_ms: int = FAULT_MS
    without: str = ""
    """Numbers of strikes that are left out, as `Numbers` has them."""
    mutant: str = ""
    """A name of `mutants()`."""

    def command(self, *extra: str, seeds: range | None = None) -> str:
        """What runs it, or the same with `seeds`; for a shell."""
        words = ["kcluster", "sim"]
        if seeds is None:
            words += ["--seed", str(self.seed)]
        else:
            words += ["--seeds", str(len(seeds)), "--from", str(seeds.start)]
        if self.fault_ms != FAULT_MS:
            words += ["--fault-ms", str(self.fault_ms)]
        if self.without:
            words += ["--without", self.without]
        if self.mutant:
            words += ["--mutant", self.mutant]
        return shlex.join([*words, *extra])


class StrikeTold(msgspec.Struct, frozen=True):
    number: int
    at_ms: int
    """Of simulated time."""
    kind: str
    did: list[str]
    """What the story says of that millisecond."""

    def __str__(self) -> str:
        return f"{self.at_ms:>7,} ms  strike {self.number}, {self.kind}: {', '.join(self.did)}"


class Failure(msgspec.Struct, frozen=True):
    kinds: list[str]
    """"invariant 3", the name of an anomaly, "surprise", the type of an exception, HUNG, DIED."""
    message: str

    def is_like(self, other: Failure) -> bool:
        return not set(self.kinds).isdisjoint(other.kinds)


class Outcome(msgspec.Struct, frozen=True):
    seed: int
    digest: str = ""
    """Of the story: the same for the same trial and the same code."""
    steps: int = 0
    simulated_ms: int = 0
    converged_ms: int = 0
    """From the heal on."""
    faults: dict[str, int] = {}
    """Strikes by kind."""
    reached: dict[str, int] = {}
    """How often each rare state was reached."""
    failure: Failure | None = None
    strikes: list[StrikeTold] = []
    """Of a failure: those carried out until then."""


def run(trial: Trial, tell: Callable[[list[str]], None] = lambda journal: None) -> Outcome:
    """`tell` is given the journal in the end, whatever the end is. UsageError when the trial
    cannot be."""
    mutant = find_mutant(trial.mutant) if trial.mutant else None
    skipped = Numbers.parse(trial.without)
    simulation = story = failure = None
    try:
        with mutant.applied() if mutant is not None else contextlib.nullcontext():
            simulation = Simulation(
                trial.seed,
                fault_ms=trial.fault_ms,
                groups=mutant.groups if mutant is not None else None,
                consumer_groups=mutant.consumer_groups if mutant is not None else None,
                skipped=skipped,
            )
            story = simulation.run()
    except Exception as error:
        failure = _raised(error)
    finally:
        tell(simulation.cluster.journal if simulation is not None else [])
    if simulation is None:
        return Outcome(trial.seed, failure=failure)
    if story is not None and not story.is_good:
        failure = _complaints(story)
    cluster, strikes = simulation.cluster, simulation.faults.strikes
    return Outcome(
        trial.seed,
        digest=cluster.digest(),
        steps=cluster.scheduler.steps,
        simulated_ms=cluster.now_ms,
        converged_ms=story.converged_ms if story is not None else 0,
        faults=dict(Counter(strike.kind for strike in strikes)),
        reached=dict(simulation.reached),
        failure=failure,
        strikes=in_words(strikes, cluster.journal) if failure is not None else [],
    )


def _complaints(story: Story) -> Failure:
    anomalies = [str(story.anomalies)] if story.anomalies else []
    surprise = ["surprise"] if story.surprises else []
    return Failure(
        [*sorted(story.anomalies.counts), *surprise],
        _cut("\n".join([*anomalies, *story.surprises])),
    )


def _raised(error: Exception) -> Failure:
    match error:
        case InvariantViolated():
            number = str(error.number)
            return Failure(
                [f"invariant {number}" if number.isdecimal() else number], _cut(str(error))
            )
        case NotReached() | StepLimit():
            return Failure([type(error).__name__], _cut(str(error)))
    # An assertion of the product, or a bug of anybody's: where it was says which.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(frame.filename).name} {frame.name}"
    trace = "".join(traceback.format_exception(error)).rstrip()[-MESSAGE_MAX:]
    return Failure([f"{type(error).__name__} in {where}"], f"{_cut(str(error))}\n{trace}".lstrip())


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 3] + "..."


# A trace has the id of a process and a value; clients act by themselves, and who is started or
# resumed then owes it to an earlier strike.
_NOT_BY_A_STRIKE = re.compile(r"\d+ [A-Z]\w*\(|(ended|start|resume|strike) |\S+/\d+ ")


def in_words(strikes: Sequence[Strike], journal: Iterable[str]) -> list[StrikeTold]:
    did: dict[int, list[str]] = {strike.at_ms: [] for strike in strikes}
    for line in journal:
        at_ms, _, what = line.lstrip().partition(" ")
        if int(at_ms) in did and not _NOT_BY_A_STRIKE.match(what):
            did[int(at_ms)].append(what)
    return [StrikeTold(each.number, each.at_ms, each.kind, did[each.at_ms]) for each in strikes]


# --- numbers of strikes -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Numbers:
    """A set of natural numbers as a person writes it: "3,7-9,12-" has all from 12 on, too."""

    ranges: tuple[tuple[int, float], ...]
    """(first, last), inclusive."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """UsageError when it is none."""
        ranges: list[tuple[int, float]] = []
        for part in text.split(",") if text else []:
            match = re.fullmatch(r"\s*(\d+)(-(\d*))?\s*", part)
            if match is None:
                raise UsageError(
                    f"{part!r} is not a number of a strike", "nor a range of them",
                    "--without 3,7-9,12-", 2,
                )  # fmt: skip
            first = int(match[1])
            last = first if match[2] is None else int(match[3]) if match[3] else math.inf
            ranges.append((first, last))
        ranges.sort()
        return cls(tuple(ranges))

    @classmethod
    def all_but(cls, kept: Iterable[int]) -> Self:
        edges = [-1, *sorted(kept)]
        between = [(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]
        return cls((*between, (edges[-1] + 1, math.inf)))

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return any(first <= number <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return ",".join(
            f"{first}" if first == last else f"{first}-{'' if last == math.inf else last}"
            for first, last in self.ranges
        )


# --- what exists ------------------------------------------------------------------------------


def mutants() -> dict[str, Mutant]:
    return {**MUTANTS, **GROUP_MUTANTS}


def find_mutant(name: str) -> Mutant:
    """By its name, or by a part that only one has. UsageError otherwise."""
    known = mutants()
    if name in known:
        return known[name]
    found = [each for each in known if name.lower() in each.lower()]
    if len(found) == 1:
        return known[found[0]]
    what = f"{len(found)} mutants have {name!r} in their name" if found else f"no mutant {name!r}"
    raise UsageError(
        what, f"there are {', '.join(found or known)}", "kcluster sim --mutant list", 2
    )


def rare_states() -> dict[str, str]:
    """What each rare state means, by name."""
    return RARE_STATES


def fault_kinds() -> list[str]:
    return sorted(set(KINDS))
