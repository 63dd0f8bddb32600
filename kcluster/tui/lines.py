"""Lines of styled text of a known width in terminal cells: what a picture is made of.

A span is (text, style name); a line is a tuple of spans, so that two pictures can be compared line
by line. Text from outside passes `clean` first: a control or wide character must not break a row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Self

from rich.cells import cell_len, chop_cells

from kcluster.tui.marks import Marks

Span = tuple[str, str]
Line = tuple[Span, ...]

EMPTY: Line = ()


def width_of(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


@functools.lru_cache(4096)
def clean(text: str) -> str:
    """Without control characters, and without those that make their neighbours change places."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() else "�" for each in text)


def cut(text: str, width: int, more: str = "…") -> str:
    """At most so wide; what is cut off is shown to be."""
    if width_of(text) <= width:
        return text
    if width <= width_of(more):
        return more[: max(0, width)]
    return (chop_cells(text, width - width_of(more)) or [""])[0] + more


def left(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    text = cut(text, width)
    return " " * (width - width_of(text)) + text


class Row:
    """A line as it is put together, from left to right."""

    __slots__ = ("_spans", "width")

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self.width = 0

    def add(self, text: str, style: str = "") -> Self:
        if text:
            self._spans.append((text, style))
            self.width += width_of(text)
        return self

    def extend(self, spans: Iterable[Span]) -> Self:
        for text, style in spans:
            self.add(text, style)
        return self

    def gap(self, upto: int) -> Self:
        """Blanks up to this column."""
        return self.add(" " * (upto - self.width))

    def line(self, width: int = -1, base: str = "") -> Line:
        """Cut or filled up to `width`; -1 as it is. `base` where a span has no style."""
        spans = self._spans
        if 0 <= width < self.width:
            spans = _cut_spans(spans, width)
        elif width > self.width:
            spans = [*spans, (" " * (width - self.width), "")]
        if base:
            spans = [(text, style or base) for text, style in spans]
        return tuple(spans)


def _cut_spans(spans: Sequence[Span], width: int) -> list[Span]:
    kept: list[Span] = []
    for text, style in spans:
        wide = width_of(text)
        if wide > width:
            kept.append((left(text, width), style))
            break
        kept.append((text, style))
        width -= wide
    return kept


def plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def fit(line: Line, width: int) -> Line:
    """Exactly so wide."""
    return Row().extend(line).line(width)


def box(
    title: str,
    rows: Sequence[Line],
    width: int,
    height: int,
    marks: Marks,
    *,
    hint: str = "",
    is_active: bool = False,
    title_style: str = "",
) -> list[Line]:
    """Rows in a frame of this outer size, its title and a hint in the upper edge."""
    edge = "focus" if is_active else "edge"
    inner = width - 2
    title = cut(f" {title} ", inner - 2)
    hint = f" {hint} " if hint and width_of(title) + width_of(hint) + 6 <= inner else ""
    rule = marks.across * (inner - 2 - width_of(title) - width_of(hint))
    title_style = title_style or ("title" if is_active else "label")
    top: Line = (
        (marks.corners[0] + marks.across, edge), (title, title_style),
        (rule, edge), (hint, "dim"), (marks.across + marks.corners[1], edge),
    )  # fmt: skip
    side = (marks.down, edge)
    lines = [top]
    for row in rows[: height - 2]:
        lines.append((side, *fit(row, inner), side))
    blank: Line = (side, (" " * inner, ""), side)
    lines += [blank] * (height - 1 - len(lines))
    lines.append(((marks.corners[2] + marks.across * inner + marks.corners[3], edge),))
    return lines


def beside(columns: Sequence[Sequence[Line]]) -> list[Line]:
    """Blocks of one height side by side."""
    return [tuple(span for line in row for span in line) for row in zip(*columns, strict=True)]


def to_width(line: Line, at: int, *, is_rest: bool = False) -> Line:
    """The part before the column `at`, or from it on. A wide character on the border is a blank."""
    before, behind = Row(), Row()
    for text, style in line:
        for each in text:
            end = before.width + behind.width + width_of(each)
            if end <= at:
                before.add(each, style)
            elif before.width < at:
                before.add(" " * (at - before.width))
                behind.add(" " * (end - at))
            else:
                behind.add(each, style)
    return (behind if is_rest else before).line()
