"""The few rules of the house that a machine can check. Layers are import-linter's."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TOP_LEVEL = {
    "pyproject.toml", "kcluster", "README.md", "tests", "examples", "Makefile", "LICENSE",
    "requirements.lock", ".ci", ".gitignore",
}  # fmt: skip

LINES_MAX = 500
LONGER = {"kcluster/core/broker/broker.py": 520}
"""Files that are longer, each with a bound of its own."""

NAMES_REFUSED = {"utils", "util", "common", "helpers", "helper", "manager", "service", "base"}

PURE = ("core", "wire", "check", "model.py", "config.py", "limits.py", "errors.py")
IMPURE_MODULES = {
    "os", "socket", "time", "asyncio", "threading", "zmq", "selectors", "subprocess", "uuid",
    "datetime", "secrets", "pathlib", "tempfile", "signal",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "hash", "id"}
"""`hash` and `id` differ from run to run: an order that hangs on them cannot be replayed."""

ELSEWHERE = re.compile(
    r"pypi\.org|files\.pythonhosted|registry\.npmjs|--(extra-)?index-url|--find-links|(?<![\w.])/(work|root|mnt)/"
)
"""Hosts of registries, and places of one machine."""


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def sources(*rooms: str) -> list[Path]:
    found: list[Path] = []
    for room in rooms or ("",):
        path = ROOT / "kcluster" / room
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_top_level_holds_what_it_should_and_no_more() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


def test_files_stay_small() -> None:
    long = {
        name(path): count
        for path in sources()
        if (count := len(path.read_text().splitlines())) > LONGER.get(name(path), LINES_MAX)
    }
    assert not long


def test_no_file_is_named_for_nothing() -> None:
    assert not [name(path) for path in sources() if path.stem in NAMES_REFUSED]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name(path)
        for path in sources()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_pure_rooms_touch_no_clock_no_file_and_no_chance() -> None:
    found = []
    for path in sources(*PURE):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(name(path), a.name) for a in node.names if a.name in IMPURE_MODULES]
            elif isinstance(node, ast.ImportFrom) and node.module in IMPURE_MODULES:
                found.append((name(path), node.module))
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in IMPURE_CALLS
            ):
                found.append((name(path), f"{node.func.id}() in line {node.lineno}"))
    assert not found


def test_nothing_names_a_registry_or_a_place_of_one_machine() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or path.suffix in (".bin", ".png") or not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if ELSEWHERE.search(line):
                found.append(f"{name(path)}:{number}")
    assert not found


def test_no_test_sleeps_to_wait() -> None:
    """Polling with a deadline is waiting for an event; a bare sleep in a test is a guess."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "time.sleep":
                    found.append(f"{name(path)}:{call.lineno}")
    assert not found


def test_the_lock_holds_names_versions_and_hashes_only() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(
            r"#.*|[a-z0-9-]+==[\w.]+( ; [^\\]+)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?", line
        ), line
