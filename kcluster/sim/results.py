"""Outcomes of many seeds: the file that lets a run go on later, and their sum.

The file has a line of JSON for each seed that is done, appended as it ends, after a line that
says what was run. What differs in that (other options, other code) is another run, and refused:
its outcomes would not be those of this one.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

import msgspec

import kcluster
from kcluster.errors import UsageError
from kcluster.sim.trial import Failure, Outcome, Trial, fault_kinds, rare_states

SCHEMA = 1
"""Of the file, and of what `kcluster sim -o json` prints."""


class Header(msgspec.Struct, frozen=True):
    code: str
    fault_ms: int
    mutant: str
    schema: int = SCHEMA


def header(trial: Trial) -> Header:
    """Of the runs of a trial with any seed."""
    return Header(code_digest(), trial.fault_ms, trial.mutant)


def code_digest() -> str:
    """Of every module of kcluster that a simulation could hang on."""
    root = Path(kcluster.__file__).parent
    digest = hashlib.sha256()
    for room in ("config.py", "model.py", "errors.py", "wire", "core", "check", "sim"):
        path = root / room
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class ResultsFile:
    """Outcomes by seed, on disk before they are told of."""

    def __init__(self, path: Path, file: IO[bytes], outcomes: dict[int, Outcome]) -> None:
        self.path = path
        self.outcomes = outcomes
        """Of every seed in the file."""
        self._file = file

    @classmethod
    def open(cls, path: Path, wanted: Header) -> Self:
        """A new one, or one to go on with. UsageError when it is of another run, or in use."""
        try:
            file = path.open("a+b")
        except OSError as error:
            raise UsageError(f"cannot open {path}", str(error.strerror), "", 2) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            outcomes = _read(path, file, wanted)
        except BlockingIOError:
            file.close()
            raise UsageError(f"{path} is in use", "another run appends to it", "", 1) from None
        except BaseException:
            file.close()
            raise
        return cls(path, file, outcomes)

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.seed] = outcome
        self._file.write(msgspec.json.encode(outcome) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: Path, file: IO[bytes], wanted: Header) -> dict[int, Outcome]:
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].splitlines()
    outcomes = {}
    if lines:
        try:
            found = msgspec.json.decode(lines[0], type=Header)
            for line in lines[1:]:
                outcome = msgspec.json.decode(line, type=Outcome)
                outcomes[outcome.seed] = outcome
        except msgspec.DecodeError as error:
            raise UsageError(f"{path} holds no results", str(error), "another file", 2) from error
        if found != wanted:
            raise UsageError(
                f"{path} holds results of another run", _difference(found, wanted),
                f"another file, or rm {path}", 2,
            )  # fmt: skip
    elif data and not data.startswith(b'{"code"'):
        raise UsageError(f"{path} holds no results", "it is a file of something else", "", 2)
    # Who was killed while appending left a part of a line.
    file.truncate(whole)
    if not lines:
        file.write(msgspec.json.encode(wanted) + b"\n")
        file.flush()
    return outcomes


def _difference(found: Header, wanted: Header) -> str:
    if found.code != wanted.code:
        return "the code has changed since"
    pairs = [
        (name.replace("_", "-"), getattr(found, name), getattr(wanted, name))
        for name in Header.__struct_fields__
    ]
    return ", ".join(
        f"--{name} {was or 'none'!r} then, {now or 'none'!r} now"
        for name, was, now in pairs
        if was != now
    )


class Failed(msgspec.Struct, frozen=True):
    seed: int
    kinds: list[str]
    message: str
    replay: str
    """The command."""


class Summary(msgspec.Struct, frozen=True):
    first_seed: int
    seeds_wanted: int
    seeds: int
    """Done, those of earlier runs included."""
    seeds_now: int
    """Done in this run."""
    took_s: float
    """This run."""
    seeds_per_minute: float
    """Of this run."""
    steps: int
    simulated_ms: int
    faults: dict[str, int]
    """Injected, by kind; those that never were, too."""
    reached: dict[str, int]
    """How often each rare state was reached; those that never were, too."""
    failures: list[Failed]
    fault_ms: int
    mutant: str
    schema: int = SCHEMA


def summarize(
    trial: Trial,
    seeds: range,
    outcomes: Iterable[Outcome],
    seeds_now: int,
    took_s: float,
) -> Summary:
    """`outcomes`: of any seeds; those that are not wanted do not count. `trial`: of any seed."""
    faults = Counter(dict.fromkeys(fault_kinds(), 0))
    reached = Counter(dict.fromkeys(rare_states(), 0))
    failures = []
    steps = simulated_ms = done = 0
    for outcome in sorted(outcomes, key=lambda each: each.seed):
        if outcome.seed not in seeds:
            continue
        done += 1
        steps += outcome.steps
        simulated_ms += outcome.simulated_ms
        faults.update(outcome.faults)
        reached.update(outcome.reached)
        if outcome.failure is not None:
            failures.append(failed(trial, outcome.seed, outcome.failure))
    return Summary(
        seeds.start, len(seeds), done, seeds_now, round(took_s, 3),
        round(seeds_now * 60 / took_s, 1) if took_s else 0.0, steps, simulated_ms,
        dict(sorted(faults.items())), dict(sorted(reached.items())), failures,
        trial.fault_ms, trial.mutant,
    )  # fmt: skip


def failed(trial: Trial, seed: int, failure: Failure) -> Failed:
    again = msgspec.structs.replace(trial, seed=seed)
    return Failed(seed, failure.kinds, failure.message, again.command())
