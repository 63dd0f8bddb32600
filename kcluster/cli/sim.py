"""`kcluster sim`: the production cores in a simulated world, one seed or many.

--seed N              in this process: its story line by line, and the verdict
--seed N --shrink     the smallest schedule of faults that still fails so
--seeds N             in workers, on all cores; can be stopped and gone on with
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kcluster.cli import output
from kcluster.cli.options import Format, OutputFormat, Quiet, milliseconds
from kcluster.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from kcluster.sim.results import Failed, Summary
    from kcluster.sim.shrink import Attempt, Shrunk
    from kcluster.sim.trial import Outcome, Trial

app = typer.Typer()

EXIT_VIOLATED = 11
EXIT_INTERRUPTED = 130

SEEDS_MAX = 10_000_000
TOLD_EVERY_S = 30.0
"""Off a terminal."""
SHOWN_LINES = 12
"""Of a failure's message in a summary; `--seed` shows it whole."""


@app.command()
def sim(
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Run this one.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Tell every state change of it.")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Find the fewest faults that make it fail.")
    ] = False,
    shrink_runs: Annotated[
        int | None, typer.Option(min=1, max=100_000, metavar="N", help="At most; 200 by default.")
    ] = None,
    without: Annotated[
        str, typer.Option(metavar="3,7-9,12-", help="Strikes of its faults to leave out.")
    ] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, max=SEEDS_MAX, metavar="N", help="Run so many.")
    ] = None,
    first: Annotated[
        int | None,
        typer.Option("--from", min=0, metavar="N", help="The first of them; 1 by default."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, max=256, metavar="N", help="At once; one for each core."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep results here, and run no seed that it has."),
    ] = None,
    exit_first: Annotated[
        bool, typer.Option("-x", "--exit-first", help="Stop at the first that fails.")
    ] = False,
    fault_ms: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=3_600_000,
            metavar="N",
            help="Simulated time in which faults happen; 12000 by default.",
        ),
    ] = None,
    mutant: Annotated[
        str, typer.Option(metavar="NAME|list", help="Put a historical bug back.")
    ] = "",
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Of a seed, by the wall clock.")
    ] = "5m",
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Simulate clusters from seeds. Load, faults, heal; what must hold is checked all the time.

    \b
    kcluster sim --seeds 1000                  # exits with 11 when one of them fails
    kcluster sim --seed 7 --trace              # the story of one
    kcluster sim --seed 7 --shrink             # fewer faults, same failure
    kcluster sim --mutant list                 # bugs that it has to find
    """
    if quiet or output_format is Format.JSON:
        output.be_quiet()
    is_json = output_format is Format.JSON
    if mutant == "list":
        return _list_mutants(is_json=is_json)
    if seed is None and seeds is None:
        raise UsageError("no seed", "it is --seed for one, --seeds for many",
                         "kcluster sim --seeds 100", 2)  # fmt: skip
    one = {"--seed": seed, "--trace": trace, "--shrink": shrink, "--without": without}
    many = {"--seeds": seeds, "--from": first, "--jobs": jobs, "--resume": resume,
            "--exit-first": exit_first}  # fmt: skip
    _refuse_both(one, many)
    _refuse_both({"--trace": trace}, {"--shrink": shrink})
    if shrink_runs is not None and not shrink:
        raise UsageError("--shrink-runs without --shrink", "it says how long to shrink",
                         "kcluster sim --seed 7 --shrink", 2)  # fmt: skip
    limit_s = milliseconds(timeout) / 1000
    if limit_s <= 0:
        raise UsageError("--timeout 0: no seed ends at once", "", "--timeout 5m", 2)

    from kcluster.sim.trial import FAULT_MS, Numbers, Trial, find_mutant

    trial = Trial(
        seed or 0,
        FAULT_MS if fault_ms is None else fault_ms,
        str(Numbers.parse(without)),
        find_mutant(mutant).name if mutant else "",
    )
    if seeds is not None:
        start = 1 if first is None else first
        many_seeds = range(start, start + seeds)
        return _many(
            trial, many_seeds, jobs or _cores(), limit_s, resume,
            is_exit_first=exit_first, is_json=is_json,
        )  # fmt: skip
    if shrink:
        return _shrink(trial, shrink_runs or 200, limit_s, is_json=is_json)
    return _one(trial, is_traced=trace, is_json=is_json)


def _refuse_both(some: dict[str, Any], others: dict[str, Any]) -> None:
    given = [
        [
            name
            for name, value in each.items()
            if not (value is None or value is False or value == "")
        ]
        for each in (some, others)
    ]
    if all(given):
        raise UsageError(
            f"{given[0][0]} and {given[1][0]} exclude each other",
            "they ask for different runs",
            "kcluster sim --help",
            2,
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _list_mutants(*, is_json: bool) -> int:
    from kcluster.sim.results import SCHEMA
    from kcluster.sim.trial import mutants

    found = mutants().values()
    if is_json:
        listed = [{"name": each.name, "breaks": each.breaks} for each in found]
        output.json({"schema": SCHEMA, "mutants": listed})
    else:
        output.table(["MUTANT", "BREAKS"], [[each.name, each.breaks] for each in found])
    return 0


# --- one seed ---------------------------------------------------------------------------------


def _one(trial: Trial, *, is_traced: bool, is_json: bool) -> int:
    from kcluster.sim.trial import run

    journal: list[str] = []
    try:
        outcome = run(trial, journal.extend)
    except KeyboardInterrupt:
        if is_traced and not is_json:
            _print_lines(journal)
        at_ms = journal[-1].split()[0] if journal else "0"
        output.note(f"stopped at {at_ms} ms of simulated time")
        return EXIT_INTERRUPTED
    if is_json:
        told = _as_json(trial, outcome)
        output.json({**told, "trace": journal} if is_traced else told)
    else:
        if is_traced:
            _print_lines(journal)
        _verdict(trial, outcome)
    return 0 if outcome.failure is None else EXIT_VIOLATED


def _print_lines(lines: list[str]) -> None:
    if lines:
        output.data("\n".join(lines))


def _as_json(trial: Trial, outcome: Outcome) -> dict[str, Any]:
    import msgspec

    from kcluster.sim.results import SCHEMA

    return {
        "schema": SCHEMA,
        **msgspec.structs.asdict(outcome),
        "fault_ms": trial.fault_ms,
        "without": trial.without,
        "mutant": trial.mutant,
        "replay": trial.command(),
    }


def _verdict(trial: Trial, outcome: Outcome) -> None:
    what = "everything holds" if outcome.failure is None else _kinds(outcome.failure.kinds)
    output.data(
        f"seed {outcome.seed}: {what}; {outcome.simulated_ms:,} ms simulated in"
        f" {outcome.steps:,} steps, trace {outcome.digest[:12]}"
    )
    output.data(f"strikes: {_counts(outcome.faults)}")
    output.data(f"reached: {_counts(outcome.reached)}")
    if outcome.failure is None:
        output.data(f"converged {output.duration(outcome.converged_ms)} after the heal")
        return
    output.data(outcome.failure.message)
    output.data(f"replay: {trial.command('--trace')}")
    output.note(f"fewer faults: {trial.command('--shrink')}")


def _kinds(kinds: list[str]) -> str:
    return ", ".join(kinds)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


# --- shrink -----------------------------------------------------------------------------------


def _shrink(trial: Trial, runs_max: int, limit_s: float, *, is_json: bool) -> int:
    from kcluster.sim.runner import Workers
    from kcluster.sim.shrink import shrink

    smallest = trial

    def told(attempt: Attempt) -> None:
        nonlocal smallest
        if attempt.fails:
            smallest = attempt.trial
        output.note(
            f"run {attempt.number}: {_strikes(attempt.strikes)}, {attempt.trial.fault_ms:,} ms:"
            f" {'fails' if attempt.fails else 'does not fail so'}"
        )

    try:
        with Workers(1, limit_s) as workers:

            def attempt(each: Trial) -> Outcome:
                [(_, outcome)] = workers.run([each])
                return outcome

            shrunk = shrink(trial, attempt, runs_max=runs_max, tell=told)
    except KeyboardInterrupt:
        output.note(f"stopped; so far: {smallest.command('--trace')}")
        return EXIT_INTERRUPTED
    if is_json:
        told_json = _as_json(shrunk.trial, shrunk.outcome)
        output.json(
            {
                **told_json,
                "runs": shrunk.runs,
                "is_done": shrunk.is_done,
                "is_repeatable": shrunk.is_repeatable,
                "first": _as_json(trial, shrunk.first),
            }
        )
    else:
        _tell_shrunk(trial, shrunk, runs_max)
    return EXIT_VIOLATED


def _strikes(count: int) -> str:
    return f"{count} strike{'' if count == 1 else 's'}"


def _tell_shrunk(trial: Trial, shrunk: Shrunk, runs_max: int) -> None:
    if not shrunk.is_done:
        output.note(f"the {runs_max} runs are used up: --shrink-runs may make it smaller")
    if not shrunk.is_repeatable:
        output.note("the last run, of the same trial, did not fail so: it cannot be replayed")
    failure = shrunk.outcome.failure or shrunk.first.failure
    assert failure is not None
    strikes = shrunk.outcome.strikes
    output.data(
        f"seed {trial.seed}: {_kinds(failure.kinds)}, with {len(strikes)} of"
        f" {_strikes(len(shrunk.first.strikes))}, in {shrunk.trial.fault_ms:,} of"
        f" {trial.fault_ms:,} ms"
    )
    for strike in strikes:
        output.data(str(strike))
    output.data(failure.message)
    output.data(f"replay: {shrunk.trial.command('--trace')}")


# --- many seeds -------------------------------------------------------------------------------


def _many(
    trial: Trial,
    seeds: range,
    jobs: int,
    limit_s: float,
    resume: Path | None,
    *,
    is_exit_first: bool,
    is_json: bool,
) -> int:
    import msgspec

    from kcluster.sim.results import ResultsFile, failed, header, summarize
    from kcluster.sim.runner import Workers

    path = _own_file() if resume is None else resume
    is_interrupted = False
    began_s = time.monotonic()
    now = 0
    with ResultsFile.open(path, header(trial)) as results:
        todo = [seed for seed in seeds if seed not in results.outcomes]
        if len(todo) < len(seeds):
            output.note(f"{len(seeds) - len(todo)} of {len(seeds)} seeds are in {path} already")
        bad = sum(results.outcomes[seed].failure is not None
                  for seed in seeds if seed in results.outcomes)  # fmt: skip
        trials = (msgspec.structs.replace(trial, seed=seed) for seed in todo)
        try:
            with Workers(jobs, limit_s) as workers, _progress(len(seeds)) as bar:
                bar.show(len(seeds) - len(todo), bad, 0.0)
                for _, outcome in workers.run(trials if not (bad and is_exit_first) else ()):
                    results.add(outcome)
                    now += 1
                    if outcome.failure is not None:
                        bad += 1
                        bar.say(failed(trial, outcome.seed, outcome.failure))
                    bar.show(len(seeds) - len(todo) + now, bad, now / _passed(began_s))
                    if bad and is_exit_first:
                        break
        except KeyboardInterrupt:
            is_interrupted = True
        summary = summarize(trial, seeds, results.outcomes.values(), now, _passed(began_s))
        is_over = summary.seeds == len(seeds) or bool(bad and is_exit_first)
        if resume is None and (is_over or not results.outcomes):
            path.unlink()
    if is_json:
        output.json(summary)
    else:
        _tell(summary)
    if not is_over:
        output.note(f"go on: {trial.command('--resume', str(path), seeds=seeds)}")
    if is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_VIOLATED if summary.failures else 0


def _passed(began_s: float) -> float:
    return max(time.monotonic() - began_s, 1e-6)


def _own_file() -> Path:
    """Where a run keeps its results that was not told where, until it is over."""
    import platformdirs

    directory = platformdirs.user_state_path("kcluster", appauthor=False) / "sim"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.jsonl"


class _Bar:
    """How far it is, on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress is not None else None
        self._told_s = time.monotonic()

    def show(self, done: int, bad: int, per_s: float) -> None:
        text = f"{bad} failed, {per_s * 60:.0f}/min"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, description=text, refresh=True)
        elif time.monotonic() - self._told_s >= TOLD_EVERY_S:
            self._told_s = time.monotonic()
            output.note(f"{done:,} of {self._total:,} seeds, {text}")

    def say(self, failed: Failed) -> None:
        text = f"seed {failed.seed}: {_kinds(failed.kinds)}; replay: {failed.replay}"
        if self._progress is not None:
            self._progress.console.print(text, markup=False, soft_wrap=True)
        else:
            output.note(text)


@contextmanager
def _progress(total: int) -> Iterator[_Bar]:
    if output.is_quiet() or not sys.stderr.isatty():
        yield _Bar(total, None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    # No thread that draws: it is drawn when a seed ends.
    with Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("seeds  {task.description}"), Remaining(),
        console=output.console(is_error=True), auto_refresh=False, transient=True,
    ) as progress:  # fmt: skip
        yield _Bar(total, progress)


def _tell(summary: Summary) -> None:
    output.data(
        f"{summary.seeds:,} of {summary.seeds_wanted:,} seeds from {summary.first_seed},"
        f" {len(summary.failures)} failed; {summary.seeds_now:,} now, at"
        f" {summary.seeds_per_minute:,.0f} a minute"
    )
    output.data(
        f"{summary.steps:,} steps, {output.duration(summary.simulated_ms)} of simulated time"
    )
    for heading, counts in (("FAULT", summary.faults), ("REACHED", summary.reached)):
        output.data("")
        rows = [[name, f"{count:,}"] for name, count in counts.items()]
        output.table([heading, "TIMES"], rows, numbers=["TIMES"])
    for each in summary.failures:
        lines = each.message.splitlines()
        output.data(f"\nseed {each.seed}: {_kinds(each.kinds)}")
        output.data("\n".join(f"  {line}" for line in lines[:SHOWN_LINES]))
        output.data(f"  replay: {each.replay}")
