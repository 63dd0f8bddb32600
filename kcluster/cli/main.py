"""The command line: which module has which command, and how an error leaves.

Only the module of the command that was typed is imported; `--help` imports them all. A module
has an `app`: a Typer whose commands become kcluster's, or, when it has a name, a group of them.

`up` starts its supervisor before anything else is imported: the two then import side by side.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False  # as `typing` has it, whose import would keep the supervisor waiting
if TYPE_CHECKING:
    from typing import Any

    import typer

MODULES = {
    "up": ("up",),
    "clusters": ("down", "purge", "ls", "version"),
    "env": ("env",),
    "doctor": ("doctor",),
    "status": ("status",),
    "top": ("top",),
    "events": ("events",),
    "why": ("why",),
    "logs": ("logs",),
    "metrics": ("metrics",),
    "segments": ("segments",),
    "dump": ("dump-segment",),
    "verify": ("verify",),
    "kill": ("kill-broker",),
    "brokers": (
        "start-broker", "stop-broker", "restart-broker", "pause-broker", "resume-broker",
        "add-broker",
    ),
    "remove": ("remove-broker",),
    "reassign": ("reassign",),
    "restart": ("restart",),
    "elect": ("elect-leaders",),
    "topic": ("topic",),
    "produce": ("produce",),
    "consume": ("consume",),
    "group": ("group",),
    "groups": ("groups",),
    "quota": ("quota",),
    "load": ("load",),
    "bench": ("bench",),
    "sim": ("sim",),
    "config": ("config",),
    "completion": ("completion",),
}  # fmt: skip
"""Commands by the module in `kcluster.cli` that has them, in the order of `--help`."""

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Leaves without taking the interpreter apart: nothing is open any more but the standard
    streams, and that takes longer than most commands."""
    gc.disable()  # nothing that is imported is garbage
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Carry out one command line; the exit code."""
    if arguments[:1] == ["__complete"]:
        from kcluster.cli import complete

        return complete.run(arguments[1:])
    command = next((word for word in arguments if not word.startswith("-")), "")
    is_help = not {"-h", "--help"}.isdisjoint(arguments)
    if command == "up" and not is_help:
        from kcluster.cli import ahead

        ahead.launch()
    is_debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    from kcluster.errors import KclusterError

    try:
        return _dispatch(command, arguments)
    except KclusterError as problem:
        if is_debug:
            raise
        from kcluster.cli import output

        output.error(problem)
        return getattr(problem, "exit_code", 1)
    except BrokenPipeError:
        # Who read our output has gone; nothing is left to be said to them.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _dispatch(command: str, arguments: list[str]) -> int:
    import typer

    refusal = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
    app = make_app(command)
    gc.freeze()
    gc.enable()
    root = typer.main.get_command(app)
    try:
        result = root(
            args=arguments,
            prog_name="kcluster",
            standalone_mode=False,
            **_defaults(root, command, arguments),
        )
    except refusal as problem:  # type: ignore[misc]
        from kcluster.cli import output
        from kcluster.errors import UsageError

        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None else "kcluster"
        message = problem.format_message().rstrip(".")
        output.error(UsageError(message, _usage(context), f"{path} --help"))
        return EXIT_USAGE
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.Exit as leaving:
        return leaving.exit_code
    return result if isinstance(result, int) else 0


def _defaults(root: Any, command: str, arguments: list[str]) -> dict[str, Any]:
    """Where click takes the values of options from that are not given."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        return {}  # it would name a variable beside each option, and a file is nothing to it
    from kcluster.cli import defaults

    if command in root.commands:
        defaults.name_variables(root.commands[command], (command,))
    places = defaults.files(without_project=defaults.names_a_file(command, arguments))
    if command == "config" or not places:
        return {}
    return {"default_map": defaults.default_map(root, command, defaults.read(places))}


def _usage(context: Any) -> str:
    """How the command is used on which something is wrong."""
    if context is None:
        return ""
    pieces = context.command.collect_usage_pieces(context)
    return " ".join(["it is used like this:", context.command_path, *pieces])


def make_app(command: str = "") -> typer.Typer:
    """With the module of one command, or with all for `--help` and for what nobody knows."""
    import typer

    app = typer.Typer(
        name="kcluster",
        help="A real, replicated, Kafka-compatible log cluster on this machine.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_kcluster)
    wanted = [module for module, commands in MODULES.items() if command in commands]
    for module in wanted or MODULES:
        name = f"kcluster.cli.{module}"
        if importlib.util.find_spec(name) is not None:
            app.add_typer(importlib.import_module(name).app)
    return app


def _kcluster() -> None:
    pass


if __name__ == "__main__":
    main()
