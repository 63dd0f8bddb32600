"""The help of every command: it fits, and its examples are command lines that would be taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kcluster.cli import main

WIDTH_MAX = 100
README = Path(__file__).parents[2] / "README.md"


def commands(made: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all that can be carried out: ("up",), ("topic", "create"), ..."""
    if not hasattr(made, "commands"):
        yield path
        return
    for name, below in made.commands.items():
        if not below.hidden:
            yield from commands(below, (*path, name))


ROOT: Any = typer.main.get_command(main.make_app())
ALL = sorted(commands(ROOT))


def examples(path: tuple[str, ...]) -> list[list[str]]:
    """The words behind `kcluster` in each line of its help that is a command line."""
    made = ROOT
    for name in path:
        made = made.commands[name]
    found = []
    for line in (made.help or "").splitlines():
        match = re.search(r"(?:^|\$\()kcluster ([^<>|]*?)(?:\)\"|[<>|]|$)", line.strip())
        if match:
            found.append(shlex.split(match[1], comments=True))
    return found


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_and_has_examples_that_parse(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: kcluster {' '.join(path)}")
    assert [line for line in text.splitlines() if len(line) > WIDTH_MAX] == []
    found = examples(path)
    assert any(tuple(words[: len(path)]) == path for words in found), "no example of its own"
    for words in found:
        parse(words)


def parse(words: list[str]) -> None:
    """Refuses options that are not there, values that cannot be and what is missing."""
    made, rest = ROOT, words
    while hasattr(made, "commands"):
        assert rest and rest[0] in made.commands, words
        made, rest = made.commands[rest[0]], rest[1:]
    made.make_context(made.name, list(rest))


def test_every_command_line_of_the_readme_would_be_taken() -> None:
    lines = [words for line in README.read_text("utf-8").splitlines() if (words := shown(line))]
    assert len(lines) > 25
    for words in lines:
        parse(words)


def shown(line: str) -> list[str]:
    """The words behind `kcluster` in an indented line of code."""
    match = re.search(r"^    (?:.*(?:\| |\$\())?kcluster ([^<>|]*?)(?:\)\".*|[<>|].*)?$", line)
    return shlex.split(match[1], comments=True) if match else []


def test_every_group_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name, made in ROOT.commands.items():
        if hasattr(made, "commands"):
            assert main.run([name, "--help"]) == 0
            assert made.help, name
            text = capsys.readouterr().out
            assert all(f"  {below} " in text for below in made.commands)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    made = ROOT
    for name in path:
        made = made.commands[name]
    silent = [
        param.name
        for param in made.params
        if param.param_type_name == "option" and not param.help and not param.hidden
    ]
    assert not silent
