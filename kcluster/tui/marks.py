"""The characters that pictures are drawn with: Unicode, or plain ASCII for `--ascii`."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len


@dataclass(frozen=True, slots=True)
class Marks:
    blocks: str
    """Heights of a bar, from something to full."""
    active: str
    """The same of an active segment."""
    none: str
    """Where there is nothing any more, or was nothing yet."""
    corners: str
    across: str
    down: str
    up: str
    """A process that runs."""
    dead: str
    warns: str
    pauses: str
    starts: str
    more: str
    cursor: str
    becomes: str
    fill: str
    rest: str


UNICODE = Marks(
    "▁▂▃▄▅▆▇█", "▁▂▃▄▅▆▇█", "·", "┌┐└┘", "─", "│", "●", "✗", "▲", "‖", "○", "…", "▸", "→", "█", "▁"
)
ASCII = Marks(
    "_.:-=+*#", "_.:-=+*#", "~", "++++", "-", "|", "o", "X", "!", "=", ".", "~", ">", ">", "#", "."
)


def block(marks: str, share: float) -> str:
    """The mark of a share between 0 and 1; something is never shown as nothing."""
    last = len(marks) - 1
    return marks[min(last, max(0, int(share * last + 0.5)))]


LIKE = str.maketrans({"→": ">", "…": "~", "↑": "^", "↓": "v", "✓": "v", "●": "o", "✗": "X"})


def to_ascii(text: str) -> str:
    """As wide as before; what has no likeness is a question mark in each of its cells."""
    if text.isascii():
        return text
    text = text.translate(LIKE)
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in text)
