"""A widget that shows lines, and draws again only those that changed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from kcluster.tui.lines import Line

STYLES = {
    "": "default",
    "dim": "dim",
    "edge": "dim",
    "focus": "bold cyan",
    "title": "bold",
    "label": "cyan",
    "key": "bold yellow",
    "good": "bold green",
    "warn": "bold yellow",
    "bad": "bold red",
    "leader": "bold green",
    "cursor": "bold",
    "graph": "cyan",
    "bar": "blue",
    "active": "bold bright_cyan",
    "reverse": "reverse",
}
"""In the terminal's own colours, on its own ground. Without colours (NO_COLOR) bold and reverse
are left, and all is said in words and letters as well."""


@functools.cache
def style_of(name: str) -> Style:
    return Style.parse(STYLES[name])


class Canvas(Widget):
    """As large as the screen."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; background: ansi_default; }"

    def __init__(self, resized: Callable[[], object]) -> None:
        super().__init__()
        self._resized = resized
        self._lines: list[Line] = []

    def on_resize(self) -> None:
        self._resized()

    def show(self, lines: Sequence[Line]) -> None:
        before, self._lines = self._lines, list(lines)
        if len(before) != len(lines):
            self.refresh()
            return
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y, (old, new) in enumerate(zip(before, lines, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        segments = [Segment(text, style_of(name)) for text, name in self._lines[y]]
        return Strip(segments).adjust_cell_length(self.size.width)
