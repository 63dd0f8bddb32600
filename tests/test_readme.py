"""What the README says of the code is what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
    return re.sub(
        r"(<!-- kcluster --help -->\n```\n).*?```",
        lambda match: f"{match[1]}{help_text}\n```",
        text,
        flags=re.DOTALL,
    )


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
