"""The only printer: data to standard output, everything else to standard error.

Off a terminal there is no colour and nothing is cut off. Rich is imported when something is
drawn with it, and not for a plain line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kcluster.errors import ApiError, KclusterError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 10_000
"""Columns off a terminal: nothing is cut."""

_is_quiet = False


def be_quiet() -> None:
    """No progress and no hints from now on; errors stay."""
    global _is_quiet  # noqa: PLW0603 - one switch of the whole program
    _is_quiet = True


def is_quiet() -> bool:
    return _is_quiet


def data(text: str) -> None:
    """What was asked for."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(text: str) -> None:
    """One of many: what was asked for, written when there is enough of it."""
    sys.stdout.write(text + "\n")


def raw(content: bytes) -> None:
    """What was asked for, as it is."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def json(value: object) -> None:
    """A struct or plain values: indented for people, one line otherwise."""
    import msgspec

    encoded = msgspec.json.encode(value)
    data((msgspec.json.format(encoded) if sys.stdout.isatty() else encoded).decode())


def note(text: str) -> None:
    """Progress, hints."""
    if not _is_quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def live(text: str) -> None:
    """Progress in one line of a terminal, in place of what it said before."""
    if not _is_quiet:
        import shutil

        # A line that wraps could not be replaced.
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()


def tick(text: str) -> None:
    """Something is done."""
    note(f"{_green('✓') if _has_colour(sys.stderr) else '✓'} {text}")


def finding(verdict: str, subject: str, text: str, hint: str = "") -> None:
    """One check of several: ok, warning or wrong, and what to do about it in a second line."""
    mark, colour = _MARKS[verdict]
    if _has_colour(sys.stdout):
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    data(f"{mark} {subject:<13} {text}")
    if hint:
        data(f"  {'':<13} try: {hint}")


_MARKS = {"ok": ("✓", 32), "warning": ("!", 33), "wrong": ("✗", 31)}


def error(problem: KclusterError) -> None:
    """What, why, the next command: a line each."""
    if isinstance(problem, UsageError):
        lines = [f"error: {problem.what}", problem.why, f"try: {problem.hint}"]
        if not problem.hint:
            lines.pop()
    elif isinstance(problem, ApiError):
        lines = [f"error: {problem.message or problem.code.name}", problem.code.name]
    else:
        lines = [f"error: {problem}"]
    sys.stderr.write("\n".join(line for line in lines if line) + "\n")
    sys.stderr.flush()


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[str] = (),
    is_whole: bool = False,
) -> None:
    """Rows under headings; the columns in `numbers` to the right. None is shown as "-". Nothing
    of a whole one is cut off, however narrow the terminal is."""
    drawn_on = console()
    if is_whole:
        drawn_on.width = WIDE
        drawn_on.soft_wrap = True
    drawn_on.print(make_table(columns, rows, numbers=numbers))


def make_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[str] = (),
    title: str = "",
) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    if title:
        made.title = title
        made.title_justify = "left"
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(_cell(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    return made


def console(*, is_error: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if is_error else sys.stdout
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if is_terminal else WIDE,
        no_color=not _has_colour(stream),
        highlight=False,
        soft_wrap=not is_terminal,
    )


def size(count: int | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "-"
    number = float(count)
    for unit in ("B", "K", "M", "G"):
        if number < 1024:
            return f"{number:.0f}{unit}" if unit == "B" or number >= 10 else f"{number:.1f}{unit}"
        number /= 1024
    return f"{number:.1f}T"


def duration(ms: float) -> str:
    """A time as people read it: 12 ms, 3.4 s, 5 min, 2 h."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    if ms < 3_600_000:
        return f"{ms / 60_000:.0f} min"
    return f"{ms / 3_600_000:.1f} h"


def moment(wall_ms: int | None) -> str | None:
    """A wall time as people read it, in their zone: 2026-01-31 12:00:00.123."""
    import time

    if wall_ms is None:
        return None
    try:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_ms // 1000))
    except (OverflowError, ValueError, OSError):  # of damaged bytes
        return str(wall_ms)
    return f"{clock}.{wall_ms % 1000:03d}"


def confirms(question: str) -> bool:
    """A yes typed on the terminal; no without one."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


_STYLES = {
    "running": "green", "up": "green", "ok": "green", "in-sync": "green", "leader": "bold green",
    "paused": "yellow", "starting": "yellow", "degraded": "yellow", "behind": "yellow",
    "fenced": "yellow", "killed": "red", "failed": "red", "unavailable": "red", "offline": "red",
    "down": "red", "damaged": "red", "stopped": "dim",
}  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "-"
    return str(value)


def _has_colour(stream: Any) -> bool:
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_plain


def _green(text: str) -> str:
    return f"\x1b[32m{text}\x1b[0m"
