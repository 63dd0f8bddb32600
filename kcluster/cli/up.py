"""`kcluster up`: start a cluster, or attach to the one that runs.

The lines to and from the supervisor are those of `wire/control.py`, read and written here as plain
JSON: importing the structs would take time from the supervisor, which is starting meanwhile.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from kcluster.cli import ahead, defaults, output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Quiet,
    milliseconds,
    rack_names,
    settings,
)
from kcluster.cli.top import no_screen_because, show
from kcluster.errors import ApiError, UsageError
from kcluster.processes.launch import Launch

app = typer.Typer()

BROKERS_MAX = 64
SCREEN = "kcluster.tui.start"


@app.command()
def up(
    brokers: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--brokers",
            metavar="N",
            help="How many; 3 for a new cluster.",
            min=1,
            max=BROKERS_MAX,
        ),
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    port: Annotated[
        int | None,
        typer.Option(
            "-p", "--port", metavar="PORT", help="Of broker 1; the others follow.", min=1, max=65535
        ),
    ] = None,
    any_port: Annotated[
        bool, typer.Option("--any-port", help="Take free ports when the usual ones are in use.")
    ] = False,
    racks: Annotated[
        str | None,
        typer.Option("--racks", metavar="A,B,...", help="Where the brokers stand, in turn."),
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Where brokers listen.")] = None,
    advertise: Annotated[
        str | None, typer.Option(metavar="HOST", help="The host that clients are told.")
    ] = None,
    dir: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the data lives.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Return when the cluster takes writes.")
    ] = False,
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Open no screen; stay in the foreground.")
    ] = False,
    restart: Annotated[
        str | None, typer.Option(metavar="no|on-failure|always", help="Of servers that end.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="For the start.")] = "30s",
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what is there first.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Data in a temporary directory, deleted at the end.")
    ] = False,
    transport: Annotated[
        str | None, typer.Option(metavar="ipc|tcp", help="Between the processes, for a new start.")
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="NAME[:PARTITIONS[:REPLICAS]]", help="Create a topic."),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Serve Prometheus metrics there as long as the cluster runs; 0 for a free one.",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "-X", metavar="KEY=VALUE", help="A broker config.", callback=defaults.with_file
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            metavar="FILE",
            is_eager=True,
            callback=defaults.take_file,
            help="Options, in place of ./kcluster.toml; see kcluster config --help.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Start a cluster; on a terminal, open its screen.

    The screen is that of `kcluster top`, and whoever leaves it says whether the cluster runs on.
    With --no-tui, or off a terminal, up stays in the foreground and Ctrl-C ends the cluster.

    \b
    kcluster up --brokers 5 --detach
    kcluster up --topic orders:6:3 -X log.retention.ms=60000
    kcluster up --brokers 6 --racks a,b,c
    """
    if quiet:
        output.be_quiet()
    topics = [_topic(text) for text in topic or []]
    options = settings(config) if config else None
    _check(options or {})
    if restart not in (None, "no", "on-failure", "always"):
        raise UsageError(f"--restart {restart}: unknown", "it is no, on-failure or always",
                         "kcluster up --restart on-failure", 2)  # fmt: skip
    if transport not in (None, "ipc", "tcp"):
        raise UsageError(f"--transport {transport}: unknown", "it is ipc or tcp",
                         "kcluster up --transport ipc", 2)  # fmt: skip
    if ephemeral and dir is not None:
        raise UsageError("--ephemeral and --dir exclude each other",
                         "an ephemeral cluster has a temporary directory",
                         "kcluster up --ephemeral", 2)  # fmt: skip
    has_screen = not (no_tui or detach or quiet) and not no_screen_because()
    request = {
        "type": "Up",
        "name": cluster,
        "directory": str(dir.expanduser().resolve()) if dir is not None else None,
        "brokers": brokers,
        "port": port,
        "is_any_port": any_port,
        "host": host,
        "advertise": advertise,
        "restart": restart,
        "options": options,
        "is_ephemeral": ephemeral,
        "is_fresh": fresh,
        "is_detached": detach or has_screen,
        "timeout_ms": milliseconds(timeout),
        "transport": transport,
        "racks": None if racks is None else rack_names(racks, "kcluster up --racks a,b,c"),
    }
    starting = _Up(request, topics, has_screen=has_screen, metrics_port=metrics)
    code = starting.run(ahead.take())
    if has_screen and not code and not starting.is_stopped:
        show(cluster)
    return code


def _check(options: dict[str, str]) -> None:
    """UsageError when one is not a broker config, or its value cannot be."""
    if not options:
        return
    from kcluster.config import check_broker_config, check_order

    for key, value in options.items():
        try:
            check_broker_config(key, value, at_start=True)
        except ApiError as error:
            raise UsageError(
                f"-X {key}={value} is refused",
                error.message or error.code.name,
                "kcluster up -X num.partitions=3",
                2,
            ) from error
    try:
        check_order(options)
    except ApiError as error:
        raise UsageError(
            "configs of -X do not go together",
            error.message or error.code.name,
            "give both: kcluster up -X NAME=VALUE -X NAME=VALUE",
            2,
        ) from error


def _topic(text: str) -> tuple[str, int, int]:
    """ "orders:6:3" as (name, partitions, replication factor), -1 for the default."""
    name, *numbers = text.split(":")
    if not name or len(numbers) > 2 or not all(number.isdigit() for number in numbers):
        raise UsageError(
            f"--topic {text!r} is not NAME[:PARTITIONS[:REPLICAS]]",
            "both are numbers",
            "--topic orders:6:3",
            2,
        )
    partitions, replicas = (*map(int, numbers), -1, -1)[:2]
    return name, partitions, replicas


class _Up:
    """One start, told line by line."""

    def __init__(
        self,
        request: dict[str, Any],
        topics: list[tuple[str, int, int]],
        *,
        has_screen: bool,
        metrics_port: int | None,
    ) -> None:
        self._request = request
        self._metrics_port = metrics_port
        self._code = 0
        """When it is up, and something else that was wished for is not."""
        self._name: str = request["name"]
        self._topics = topics
        self._has_screen = has_screen
        """The cluster runs on in its supervisor, and whoever leaves the screen says how long."""
        self._interrupts = 0
        self._is_up = False
        self._launch: Launch | None = None

    def run(self, launch: Launch) -> int:
        self._launch = launch
        before = {
            number: signal.signal(number, self._interrupted)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        launch.write(json.dumps(self._request).encode())
        if self._has_screen:
            # Nothing but lines to wait for: the brokers start meanwhile.
            threading.Thread(target=importlib.import_module, args=(SCREEN,), daemon=True).start()
        for text in launch.lines():
            line = json.loads(text)
            match line["type"]:
                case "Progress":
                    self._progress(line)
                case "Refused":
                    launch.wait()
                    raise UsageError(line["what"], line["why"], line["hint"], line["exit_code"])
                case "Running":
                    launch.wait()
                    return self._attach(line)
        if self._request["is_detached"] and self._is_up:
            launch.let_go()
            for number, handler in before.items():
                signal.signal(number, handler)
            return self._code
        code = launch.wait()
        if self._is_up and code == 0:
            return self._code
        if self._interrupts:
            return 130
        raise UsageError(
            "the supervisor ended before the cluster was up",
            f"exit code {code}",
            f"kcluster logs supervisor -c {self._name}",
        )

    @property
    def is_stopped(self) -> bool:
        """By Ctrl-C, while it started."""
        return bool(self._interrupts)

    def _progress(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "ready":
                who = f"broker {line['id']}" if line["id"] else "coordinator"
                output.tick(f"{who:<12} {line['text']:<16} {line['elapsed_ms']:>6.0f} ms")
            case "up":
                self._is_up = True
                self._create_topics()
                output.note(f"cluster {self._name} takes writes; its data is in {line['text']}")
                output.note("bootstrap address:")
                output.data(line["bootstrap"])
                self._serve_metrics()
                self._hints()
            case "stopped":
                output.note(f"cluster {self._name} is down")

    def _hints(self) -> None:
        suffix = "" if self._name == DEFAULT_CLUSTER else f" -c {self._name}"
        output.note("try next:")
        for line in (
            f"kcluster produce orders{suffix}",
            f"kcluster kill-broker --random{suffix}",
            f"kcluster top{suffix}",
        ):
            output.note(f"  {line}")
        if not self._request["is_detached"]:
            output.note("Ctrl-C ends the cluster and keeps its data")

    def _create_topics(self) -> None:
        if not self._topics:
            return
        from kcluster.cli.topic import create_topics

        create_topics(self._name, self._topics)

    def _serve_metrics(self) -> None:
        if self._metrics_port is None:
            return
        from kcluster.cli.metrics import serve_beside

        try:
            output.note(f"metrics: {serve_beside(self._name, self._metrics_port)}")
        except UsageError as problem:
            # The cluster is up all the same.
            output.error(problem)
            self._code = problem.exit_code

    def _attach(self, running: dict[str, Any]) -> int:
        if running["differences"]:
            raise UsageError(
                f"cluster {self._name} is running already, and not like this",
                "; ".join(running["differences"]),
                f"kcluster down -c {self._name}, or kcluster up -c OTHER",
            )
        output.note(f"cluster {self._name} is running already, in {running['directory']}")
        self._is_up = True
        self._create_topics()
        output.data(running["bootstrap"])
        self._serve_metrics()
        return self._code

    def _interrupted(self, number: int, frame: object) -> None:
        """First: a clean stop. Again: SIGKILL to all."""
        assert self._launch is not None
        self._interrupts += 1
        if self._interrupts == 1:
            if sys.stderr.isatty():
                sys.stderr.write("\n")
            output.note("stopping; Ctrl-C again kills")
            self._launch.write(b"stop")
        else:
            self._launch.write(b"kill")
