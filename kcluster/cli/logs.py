"""`kcluster logs`: what the processes said, merged by time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName
from kcluster.errors import UsageError
from kcluster.processes.workdir import locate, process_name, read_cluster

app = typer.Typer()

FOLLOW_S = 0.1
TAIL_BYTES = 4 << 20
"""Of each log, from its end: enough for any `-n` that is read by people."""


@app.command()
def logs(
    who: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID|coordinator|supervisor]...", help="Whose; all by default."),
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, metavar="N", help="The last so many.")
    ] = 50,
) -> None:
    """Show what brokers, coordinator and supervisor logged.

    \b
    kcluster logs 2 coordinator -f
    """
    directory = locate(cluster)
    known = read_cluster(directory)
    if known is None:
        raise UsageError(
            f"there is no cluster {cluster}", f"nothing is in {directory}", "kcluster ls", 3
        )
    valid = ["supervisor", "coordinator", *(process_name(seat.id) for seat in known.seats)]
    names = [f"broker-{name}" if name.isdigit() else name for name in who or valid]
    for name in names:
        if name not in valid:
            raise UsageError(
                f"no log of {name}", f"there are {', '.join(valid)}", "kcluster logs", 4
            )
    tails = [_Tail(directory / "logs" / f"{name}.log", name) for name in names]
    found = sorted((line for tail in tails for line in tail.read()), key=lambda line: line[0])
    for _, text in found[-lines:] if lines else []:
        output.data(text)
    while follow:
        time.sleep(FOLLOW_S)
        for _, text in sorted(line for tail in tails for line in tail.read()):
            output.data(text)


class _Tail:
    """One log file, read as it grows."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._position = -1
        self._last_ms = 0

    def read(self) -> list[tuple[int, str]]:
        """Whole new lines, each with its wall time in ms; one without takes that before it."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if self._position < 0:
                    self._position = max(0, size - TAIL_BYTES)
                elif size < self._position:  # moved aside: a new file
                    self._position = 0
                file.seek(self._position)
                data = file.read(TAIL_BYTES)
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._position += end
        return [self._line(line) for line in data[:end].decode("utf-8", "replace").splitlines()]

    def _line(self, line: str) -> tuple[int, str]:
        stamp, _, text = line.partition(" ")
        if stamp.isdigit() and len(stamp) >= 13:
            self._last_ms = int(stamp)
        else:
            text = line
        clock = time.strftime("%H:%M:%S", time.localtime(self._last_ms / 1000))
        return self._last_ms, f"{clock}.{self._last_ms % 1000:03d} {self._name:<12} {text}"
