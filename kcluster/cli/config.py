"""`kcluster config`: what is set in files and in the environment, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from kcluster.cli import defaults, output
from kcluster.cli.options import Format, OutputFormat

app = typer.Typer(
    name="config",
    help="""Show what config files set in place of options that are not given.

A flag is stronger than KCLUSTER_<COMMAND>_<OPTION> in the environment (KCLUSTER_CLUSTER for all
commands), that than ./kcluster.toml, and that than config.toml of the user. In both:

\b
    cluster = "dev"                  # of every command
    [up]                             # options by their long names
    brokers = 5
    [up.options]                     # what -X sets
    "log.retention.ms" = 60000
    [topic.create]
    partitions = 6
""",
    no_args_is_help=True,
)


class Value(NamedTuple):
    key: str
    value: Any
    source: str
    """A file, or a variable of the environment."""


@app.command()
def show(output_format: OutputFormat = Format.TABLE) -> None:
    """Show each value that is set, and where it comes from. All of it is checked.

    \b
    kcluster config show
    """
    found = sorted(_values())
    if output_format is Format.JSON:
        rows = [{"key": v.key, "value": v.value, "from": v.source} for v in found]
        output.json({"schema": 1, "values": rows})
    elif found:
        rows_shown = [[v.key, _plain(v.value), v.source] for v in found]
        output.table(["KEY", "VALUE", "FROM"], rows_shown, is_whole=True)
    else:
        output.note("nothing is set; kcluster config path says where it would be")


@app.command()
def path(output_format: OutputFormat = Format.TABLE) -> None:
    """Show the files that are looked at, the strongest first.

    \b
    kcluster config path
    """
    rows = []
    for what, place in (
        ("project", defaults.PROJECT_FILE),
        ("user", defaults.user_file()),
    ):
        state = "read" if place.is_file() else "not there"
        rows.append({"of": what, "file": str(place.absolute()), "state": state})
    if output_format is Format.JSON:
        output.json({"schema": 1, "files": rows})
    else:
        table = [list(row.values()) for row in rows]
        output.table(["OF", "FILE", "STATE"], table, is_whole=True)


def _values() -> Iterator[Value]:
    from kcluster.cli.main import make_app

    root: Any = typer.main.get_command(make_app())
    values = defaults.read(defaults.files())
    for name, made in root.commands.items():
        defaults.name_variables(made, (name,))
        defaults.default_map(root, name, values)
    from_environment = dict(_environment(root))
    for keys, (value, place) in values.items():
        key = ".".join(keys)
        if key not in from_environment:
            yield Value(key, value, str(place.absolute()))
    for key, variable in from_environment.items():
        yield Value(key, os.environ[variable], variable)


def _environment(made: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(key, variable) of those that are set."""
    if hasattr(made, "commands"):
        for name, below in made.commands.items():
            yield from _environment(below, (*path, name))
        return
    for param in made.params:
        if param.param_type_name == "option" and os.environ.get(param.envvar or ""):
            is_for_all = param.envvar == f"{defaults.ENVIRONMENT}_CLUSTER"
            key = defaults.key_of(param)
            yield key if is_for_all else ".".join((*path, key)), param.envvar


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
