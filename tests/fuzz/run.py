"""Searches for inputs that a target does not survive.

    python -m tests.fuzz.run                                   every target in turn, and a table
    python -m tests.fuzz.run TARGET [--seconds N] [--corpus D] one of them, under atheris
    python -m tests.fuzz.run TARGET --replay FILE              one input again, without atheris

atheris (libFuzzer for Python) instruments `kcluster`, the codecs that it generates included, and
keeps every input that reaches new code in the corpus directory. What crashes is kept below
`tests/fuzz/crashes/TARGET`, where the tests replay it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
CRASHES = HERE / "crashes"

RSS_MB_MAX = 700
"""atheris and its tables take 150 of them."""
CODEC_TARGETS = ("messages", "broker")
INPUT_SECONDS = 30
"""libFuzzer's bound, for what never comes back; the target's own is tighter and counts CPU."""


class Found(NamedTuple):
    target: str
    executions: int
    corpus: int
    """Inputs that reach different code."""
    rss_mb: int
    crashes: list[Path]
    exit_code: int


# --- one target, under atheris --------------------------------------------------------------


def search(target: str, seconds: int, corpus: Path, crashes: Path) -> None:
    """Never comes back: libFuzzer ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit(
            "error: atheris is not installed\n"
            "try: make fuzz, or pip install atheris, which has wheels for Linux only"
        )
    with atheris.instrument_imports(include=["kcluster"], enable_loader_override=False):
        from kcluster.wire.source import Source

        plain = Source.function

        def instrumented(self: Source, signature: str, name: str) -> Any:
            return atheris.instrument_func(plain(self, signature, name))

        Source.function = instrumented  # type: ignore[method-assign]
        from kcluster.wire.message import warm
        from tests.fuzz.targets import INPUT_BYTES, TARGETS, run_target
        from tests.wire.samples import classes_and_versions

    assert target in TARGETS
    if target in CODEC_TARGETS:
        # Making and instrumenting some hundreds of them is no part of the search.
        for cls, version in classes_and_versions():
            warm(cls, version)
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={RSS_MB_MAX}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup(arguments, lambda data: run_target(target, data))
    atheris.Fuzz()


# --- all of them ----------------------------------------------------------------------------


def search_apart(target: str, seconds: int, corpus: Path) -> Found:
    """In a process of its own; what it printed is shown when it crashed."""
    crashes = CRASHES / target
    before = set(crashes.glob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", target, "--seconds", str(seconds),
         "--corpus", str(corpus)],
        cwd=HERE.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    found = sorted(set(crashes.glob("*")) - before)
    if done.returncode:
        # libFuzzer's lines of progress begin with one of these.
        shown = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        print("\n".join(shown[-60:]))
        for path in found:
            print(f"replay: {sys.executable} -m tests.fuzz.run {target} --replay {path}")
    return Found(
        target,
        _statistic(done.stdout, r"stat::number_of_executed_units:\s+(\d+)"),
        len(list(corpus.glob("*"))),
        _statistic(done.stdout, r"stat::peak_rss_mb:\s+(\d+)"),
        found,
        done.returncode,
    )


def _statistic(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else -1


def plant(target: str, corpus: Path) -> None:
    """The inputs that a search begins with."""
    from tests.fuzz.corpus import inputs

    corpus.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)


def search_all(targets: list[str], seconds: int, corpus: Path) -> bool:
    """Whether none crashed."""
    print(f"{'target':20} {'executions':>12} {'corpus':>8} {'peak MB':>8} {'crashes':>8}")
    is_well = True
    for target in targets:
        plant(target, corpus / target)
        found = search_apart(target, seconds, corpus / target)
        is_well &= not found.exit_code and not found.crashes
        print(
            f"{target:20} {found.executions:12,} {found.corpus:8,} {found.rss_mb:8,}"
            f" {max(len(found.crashes), int(found.exit_code != 0)):8,}",
            flush=True,
        )
    return is_well


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--corpus", type=Path, help="kept from run to run; else thrown away")
    parser.add_argument("--replay", type=Path, help="one input, without atheris")
    options = parser.parse_args()
    if options.replay is not None:
        from tests.fuzz.targets import run_target

        run_target(options.target, options.replay.read_bytes())
        print(f"{options.target} survives {options.replay}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        corpus = options.corpus or Path(scratch)
        if options.target is not None:
            search(options.target, options.seconds, corpus, CRASHES / options.target)
        from tests.fuzz.seeds import SEEDS

        sys.exit(not search_all(list(SEEDS), options.seconds, corpus))


if __name__ == "__main__":
    main()
