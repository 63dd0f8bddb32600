"""What may follow on a command line that is being typed, for the scripts of `completion`.

    kcluster __complete WORD...     the words behind `kcluster`, the last one being typed (or empty)

Prints candidates, each with a tab and a word about it. Nothing is asked of a running cluster:
names and ids come from its directory, because a person waits for this with a finger on a key. What
an argument takes is told by its metavar, so that `--help` and completion say the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kcluster.cli.main import MODULES

Candidates = Iterator[tuple[str, str]]
"""(word, what it is), more than fit: what does not begin like the word being typed goes."""


def run(words: list[str]) -> int:
    """Never an error: a shell would print it amid what is being typed."""
    # bash takes --cluster=dev apart.
    words = [word for word in words[:-1] if word != "="] + [words[-1] if words else ""]
    if words[-1] == "=":
        words[-1] = ""
    with contextlib.suppress(Exception):
        for word, about in dict(_candidates(words[:-1], words[-1])).items():
            sys.stdout.write(f"{word}\t{about}\n" if about else f"{word}\n")
    return 0


def _candidates(before: Sequence[str], current: str) -> Candidates:
    name, _, value = current.partition("=")
    if current.startswith("--") and "=" in current:
        for word, about in _candidates([*before, name], value):
            yield f"{name}={word}", about
        return
    command = next((word for word in before if not word.startswith("-")), "")
    if not command:
        found = _commands()
    elif any(command in names for names in MODULES.values()):
        found = _of_command(command, before, current)
    else:
        return
    yield from ((word, about) for word, about in found if word.startswith(current))


def _commands() -> Candidates:
    for names in MODULES.values():
        yield from ((name, "") for name in names)
    yield from (("--help", ""),)


def _of_command(name: str, before: Sequence[str], current: str) -> Candidates:
    import typer

    from kcluster.cli.main import make_app

    command: Any = typer.main.get_command(make_app(name))
    path: list[str] = []
    rest = list(before)
    while hasattr(command, "commands") and rest:
        word = rest.pop(0)
        if word in command.commands:
            command = command.commands[word]
            path.append(word)
    if hasattr(command, "commands"):
        for sub, made in command.commands.items():
            if not made.hidden:
                yield sub, made.get_short_help_str()
        return
    options = {flag: param for param in command.params for flag in param.opts if flag[:1] == "-"}
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    pending: Any = None
    given = 0
    for word in rest:
        if pending is not None:
            pending = None
        elif word.startswith("-") and word != "-":
            option = options.get(word)
            pending = option if option is not None and not option.is_flag else None
        else:
            given += 1
    if pending is not None:
        yield from _values(pending, path, before, current)
    elif current.startswith("-"):
        for flag, option in options.items():
            yield flag, (option.help or "").rstrip(".")
        yield "--help", "Show what it does"
    elif arguments:
        argument = arguments[min(given, len(arguments) - 1)]
        if given < len(arguments) or argument.nargs < 0:
            yield from _values(argument, path, before, current)


def _values(param: Any, path: list[str], before: Sequence[str], current: str) -> Candidates:
    choices = getattr(param.type, "choices", None)
    if choices:
        yield from ((str(getattr(choice, "value", choice)), "") for choice in choices)
        return
    metavar = (param.metavar or "").strip("[].")
    words = metavar.split("|")
    if param.name in ("cluster", "confirm"):
        yield from _clusters()
        return
    if "ID" in words:
        yield from _brokers(_cluster(before))
        words.remove("ID")
    if len(words) > 1 or (words and words[0].islower()):
        yield from ((word, "") for word in words if not word.isupper() or param.name != "mutant")
    takes_topic = "TOPIC" in metavar or param.name in ("topic", "topics")
    if takes_topic or (path[:1] == ["topic"] and metavar.startswith("NAME") and path != CREATE):
        yield from _topics(_cluster(before), current, only_partitions=metavar == "TOPIC-PARTITION")


CREATE = ["topic", "create"]


# --- what there is ----------------------------------------------------------------------------


def _cluster(before: Sequence[str]) -> str:
    from kcluster.cli.options import DEFAULT_CLUSTER

    for flag, value in pairwise(before):
        if flag in ("-c", "--cluster"):
            return value
    joined = [word.partition("=")[2] for word in before if word.startswith("--cluster=")]
    if joined or "KCLUSTER_CLUSTER" in os.environ:
        return joined[-1] if joined else os.environ["KCLUSTER_CLUSTER"]
    from kcluster.cli import defaults

    value, _ = defaults.read(defaults.files()).get((defaults.CLUSTER,), (DEFAULT_CLUSTER, None))
    return str(value)


def _clusters() -> Candidates:
    from kcluster.processes.workdir import holder, list_clusters

    for name, directory in list_clusters():
        yield name, "stopped" if holder(directory) is None else "running"


def _brokers(cluster: str) -> Candidates:
    from kcluster.processes.workdir import locate, read_cluster

    known = read_cluster(locate(cluster))
    for seat in known.seats if known is not None else []:
        yield str(seat.id), f"port {seat.port}"


def _topics(cluster: str, current: str, *, only_partitions: bool) -> Candidates:
    """As the directories of the brokers name them; partitions once a topic is typed."""
    from kcluster.processes.workdir import locate

    partitions: set[tuple[str, int]] = set()
    for place in locate(cluster).glob("broker-*"):
        partitions |= set(_partitions(place))
    is_internal = current.startswith("_")
    counts: dict[str, int] = {}
    for topic, _ in sorted(partitions):
        if is_internal or not topic.startswith("__"):
            counts[topic] = counts.get(topic, 0) + 1
    for topic, count in counts.items():
        if not only_partitions:
            yield topic, f"{count} partition{'s' if count > 1 else ''}"
        if only_partitions or current.startswith(f"{topic}-"):
            yield from ((f"{topic}-{number}", "") for of, number in sorted(partitions)
                        if of == topic)  # fmt: skip


def _partitions(place: Path) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(place):
        topic, _, number = entry.name.rpartition("-")
        if topic and number.isdecimal():
            yield topic, int(number)
