"""What files and the environment say in place of options that are not given.

    flag > KCLUSTER_* in the environment > ./kcluster.toml > config.toml of the user > default

    cluster = "dev"            # of every command
    [up]                       # options of a command, by their long names
    brokers = 5
    [up.options]               # what -X sets
    "log.retention.ms" = 60000
    [topic.create]
    partitions = 6

The values become click's default map, names of variables are given to its options. Without a file
this costs two calls to the kernel; what reads them is imported when there is one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from kcluster.errors import UsageError

PROJECT_FILE = Path("kcluster.toml")
ENVIRONMENT = "KCLUSTER"
"""Begins the names of variables: KCLUSTER_UP_BROKERS."""
OPTIONS = "options"
"""Table of what -X sets."""
CLUSTER = "cluster"

BY_HAND = ("confirm", "fresh")
"""Options that delete data: nobody shall have to look for a file or a variable that did it."""

Keys = tuple[str, ...]
"""("up", "brokers"), ("up", "options", "num.partitions")."""
Values = dict[Keys, tuple[Any, Path]]
"""Each with the file that says so."""


def user_file() -> Path:
    if sys.platform == "linux":  # as platformdirs has it, without its import
        home = os.environ.get("XDG_CONFIG_HOME", "").strip() or "~/.config"
        return Path(home).expanduser() / "kcluster" / "config.toml"
    import platformdirs

    return platformdirs.user_config_path("kcluster", appauthor=False) / "config.toml"


def files(*, without_project: bool = False) -> list[Path]:
    """Those that are there, the weakest first."""
    places = [user_file()] if without_project else [user_file(), PROJECT_FILE]
    return [place for place in places if place.is_file()]


def read(places: list[Path]) -> Values:
    """What they set together. UsageError for what cannot be read or names no command."""
    found: Values = {}
    for place in places:
        for path, value in _flat(_parsed(place)):
            found[path] = value, place
    return found


def _parsed(place: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(Path(place).read_text("utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot read {place}", why, "kcluster config path", 2) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{place} is no TOML", str(error), "kcluster config path", 2) from None


def _flat(table: dict[str, Any], path: Keys = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        # -X's keys have dots in them, which TOML takes for tables when they are not quoted.
        if isinstance(value, dict):
            yield from _flat(value, (*path, name))
        else:
            yield (*path, name), value


# --- for a command ----------------------------------------------------------------------------


def default_map(root: Any, command: str, values: Values) -> dict[str, Any]:
    """Click's, of one command or group (its name). UsageError when a key is unknown or a value
    cannot be; the options of other commands are not looked at."""
    made: dict[str, Any] = {}
    if command in root.commands:
        made[command] = _of(root.commands[command], (command,), values)
    for path, (_, place) in values.items():
        if path == (CLUSTER,):
            continue
        if path[0] not in _command_names() or len(path) == 1:
            _unknown(path, 0, place, [CLUSTER, *_command_names()])
    return made


def _of(made: Any, path: Keys, values: Values) -> dict[str, Any]:
    if hasattr(made, "commands"):
        for given, (_, place) in values.items():
            is_below = given[: len(path)] == path
            if is_below and (len(given) < len(path) + 2 or given[len(path)] not in made.commands):
                _unknown(given, len(path), place, list(made.commands))
        return {name: _of(below, (*path, name), values) for name, below in made.commands.items()}
    known = {key_of(param): param for param in made.params if param.param_type_name == "option"}
    found: dict[str, Any] = {}
    pairs: list[str] = []
    for given, (value, place) in values.items():
        if given == (CLUSTER,) and CLUSTER in known:
            found.setdefault(CLUSTER, _converted(known[CLUSTER], given, value, place))
        if given[: len(path)] != path:
            continue
        name, *rest = (part.replace("_", "-") for part in given[len(path) :])
        if name == OPTIONS and OPTIONS in known and rest:
            pairs.append(f"{'.'.join(given[len(path) + 1 :])}={_text(value)}")
        elif name in BY_HAND and name in known:
            raise UsageError(f"{place}: {'.'.join(given)} can only be given as a flag",
                             "it deletes data", f"kcluster {path[0]} --help", 2)  # fmt: skip
        elif rest or name not in known or name == OPTIONS:
            _unknown(given, len(path), place, list(known))
        else:
            found[known[name].name] = _converted(known[name], given, value, place)
    if pairs:
        found[known[OPTIONS].name] = pairs
    return found


def key_of(param: Any) -> str:
    """As a file names it: the long option, or `options` for -X."""
    if "-X" in param.opts:
        return OPTIONS
    long = [option[2:] for option in param.opts if option.startswith("--")]
    return str(long[0] if long else param.name.replace("_", "-"))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _converted(param: Any, path: Keys, value: Any, place: Path) -> Any:
    """As click would take it from a command line. UsageError names the file, which click cannot."""
    why = ""
    if param.is_flag:
        if isinstance(value, bool):
            return value
        why = "it is true or false"
    elif isinstance(value, list) != param.multiple or isinstance(value, dict):
        why = "it takes a list" if param.multiple else "it takes one value"
    else:
        try:
            several = value if param.multiple else [value]
            for each in several:
                param.type.convert(_text(each), param, None)
            return [_text(each) for each in several] if param.multiple else _text(value)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            why = getattr(error, "message", str(error))
    raise UsageError(
        f"{place}: {'.'.join(path)} = {_text(value)}", why, "kcluster config path", 2
    ) from None


def _unknown(keys: Keys, at: int, place: Path, known: list[str]) -> NoReturn:
    """`keys[at]` is none of `known`, or there is nothing to it."""
    import difflib

    near = difflib.get_close_matches(keys[at], known, 3, 0.5)
    why = f"near to it are {', '.join(near)}" if near else f"known are {', '.join(known[:12])}"
    if len(near) == 1:
        why = f"near to it is {near[0]}"
    raise UsageError(f"{place}: unknown key {'.'.join(keys)}", why, "kcluster config --help", 2)


def _command_names() -> list[str]:
    from kcluster.cli.main import MODULES

    return [name for names in MODULES.values() for name in names]


def name_variables(made: Any, path: Keys) -> None:
    """Let every option that has no variable yet be set by one: KCLUSTER_TOPIC_CREATE_PARTITIONS."""
    if hasattr(made, "commands"):
        for name, below in made.commands.items():
            name_variables(below, (*path, name))
        return
    for param in made.params:
        is_free = param.param_type_name == "option" and not param.envvar
        if is_free and key_of(param) not in BY_HAND:
            name = "_".join((ENVIRONMENT, *path, key_of(param)))
            param.envvar = name.upper().replace("-", "_")


# --- for one file that is named ---------------------------------------------------------------


def take_file(context: Any, place: Path | None) -> Path | None:
    """Of `up -f`: that file's values in place of the project's. Called before other options are
    looked at."""
    if place is not None:
        values = read([*files(without_project=True), place])
        root = context.find_root().command
        context.default_map = default_map(root, context.info_name, values)[context.info_name]
    return place


def names_a_file(command: str, arguments: list[str]) -> bool:
    """Whether `up` is told which file to take: then the project's is not read at all."""
    return command == "up" and any(
        word.startswith("--file") or (word[:1] == "-" != word[1:2] and "f" in word)
        for word in arguments
    )


def with_file(context: Any, param: Any, given: list[str] | None) -> list[str] | None:
    """Of -X: what is given beside what a file says, and stronger."""
    from_file = (context.default_map or {}).get(param.name) or []
    if not given or given == from_file:
        return given
    return [*from_file, *given]
