"""What the README says of the code is what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from kcluster.cli import main
from kcluster.sim.mutants import ALL_MUTANTS, INEXPRESSIBLE, reason, row
from kcluster.wire.api_gaps import GAPS, PARTLY
from kcluster.wire.apis import APIS
from kcluster.wire.types import VersionRange

README = Path(__file__).parent.parent / "README.md"


def _row(key: int) -> str:
    if key in APIS:
        api = APIS[key]
        return f"| {key} | {api.name} | {_range(api.versions)} | {PARTLY.get(key, '')} |\n"
    gap = GAPS[key]
    return f"| {key} | {gap.name} | - | {gap.reason} |\n"


def _range(versions: VersionRange) -> str:
    low, high = versions
    return str(low) if low == high else f"{low}-{high}"


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that can be carried out, in the order of `--help`."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


def _every_help() -> str:
    """The help of each command, as a terminal of 80 columns shows it."""
    app = main.make_app()
    shown = []
    for path in _commands(typer.main.get_command(app)):
        ran = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}).invoke(
            app, [*path, "--help"], prog_name="kcluster"
        )
        assert ran.exit_code == 0, ran.output
        shown.append(f"$ kcluster {' '.join(path)} --help\n{ran.stdout.strip()}\n")
    return "\n".join(shown)


def rewritten(text: str) -> str:
    """The README with its generated parts made anew."""
    table = "".join(_row(key) for key in sorted({*APIS, *GAPS}))
    head = "| key | API | versions | |\n|---|---|---|---|\n"
    text = re.sub(re.escape(head) + r"(\|.*\n)*", lambda _: head + table, text)
    help_text = subprocess.run(
        [sys.executable, "-m", "kcluster.cli.main", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    ).stdout.strip()
    for mark, shown in (("kcluster --help", f"{help_text}\n"), ("every --help", _every_help())):
        text = re.sub(
            rf"(<!-- {mark} -->\n```\n).*?```",
            lambda match, shown=shown: f"{match[1]}{shown}```",
            text,
            flags=re.DOTALL,
        )
    return text


def test_tables_and_help_in_the_readme_are_what_the_code_says() -> None:
    before = README.read_text()
    after = rewritten(before)
    if os.environ.get("KCLUSTER_REWRITE"):
        README.write_text(after)
    assert after == before


def test_every_mutant_is_in_the_readme_and_no_other() -> None:
    text = README.read_text()
    seeds = r"(?:[0-9.]+|[0-9] of 3 never)"
    begins = rf"^(\| `[a-z0-9-]+` (?:\| [^|]+ ){{3}}\|) {seeds} \| "
    table = re.findall(begins, text, re.MULTILINE)
    assert table == [row(mutant) for mutant in ALL_MUTANTS.values()]
    reasons = re.findall(r"^- (?:KAFKA-\d+|KIP-\d+): .*", text, re.MULTILINE)
    assert reasons == [reason(bug) for bug in INEXPRESSIBLE]
