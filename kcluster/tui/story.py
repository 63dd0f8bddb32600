"""The event panel: what happened, to the millisecond, the newest last."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kcluster.tui import figures
from kcluster.tui.lines import Line, Row, box, clean, cut, left
from kcluster.tui.view import View
from kcluster.wire.events import ClusterEvent

FOLD_MS = 1_000
"""Events of one kind that follow each other so closely are one line, and how many
more there are: a broker that dies changes every ISR at once."""

TAIL = 600
"""Of the events, so many are looked at for a panel."""

FOLDED = frozenset(
    {"isr", "election", "reassign", "role", "log", "segment", "retention", "compaction"}
)

FOLDED_EVENTS = frozenset({"GroupsLoaded"})
"""Of types that are told one by one: as many as there are partitions of groups."""

COMMAND = "command"
"""The type of what this screen did itself."""

STYLES = {
    "chaos": "bad", "process": "warn", "broker": "warn", "election": "leader", "isr": "warn",
    "segment": "dim", "retention": "dim", "compaction": "dim", "role": "dim", "log": "dim",
    "reassign": "label", "group": "label", "topic": "label", "warning": "bad", COMMAND: "focus",
}  # fmt: skip


def command(seq: int, text: str, broker: int = -1, at_ms: int | None = None) -> ClusterEvent:
    """Something that this screen has done, as the command that would do the same."""
    now_ns = time.time_ns()
    at_ms = now_ns // 1_000_000 if at_ms is None else at_ms
    return ClusterEvent(seq, at_ms, now_ns, -1, 0, COMMAND, "Command", text, broker=broker)


def folded(events: Sequence[ClusterEvent], wanted: int) -> list[tuple[ClusterEvent, int]]:
    """The last lines, oldest first: an event, and how many of its kind it stands for besides."""
    lines: list[tuple[ClusterEvent, int]] = []
    places: dict[str, int] = {}
    tail = sorted(events[-TAIL:], key=lambda event: event.at_ms)
    for event in tail[::-1]:
        kind = event.event
        place = places.get(kind, -1)
        if place >= 0 and lines[place][0].at_ms - event.at_ms < FOLD_MS:
            lines[place] = (event, lines[place][1] + 1)
        elif len(lines) < wanted:
            if event.type in FOLDED or kind in FOLDED_EVENTS:
                places[kind] = len(lines)
            lines.append((event, 0))
    lines.reverse()
    lines.sort(key=lambda line: line[0].at_ms)
    return lines


def story(view: View, width: int, height: int) -> list[Line]:
    inner = width - 2
    lines = [line_of(view, event, inner, more) for event, more in folded(view.events(), height - 2)]
    if not lines:
        lines = [((" nothing yet", "dim"),)]
    hint = f"v shows: {view.level}   e all events" if width >= 100 else f"v: {view.level}"
    return box("events", lines, width, height, view.marks, hint=hint,
               is_active=view.panel == "events")  # fmt: skip


def line_of(view: View, event: ClusterEvent, width: int, more: int = 0) -> Line:
    is_wide = width >= 90
    style = STYLES.get(event.type, "")
    row = Row().add(f" {figures.clock(event.at_ms, with_ms=True)} ", "dim")
    row.add(f"{event.type.upper():<11}", style)
    subject = "this screen" if event.type == COMMAND and event.broker < 0 else event.subject
    row.add(left(clean(subject), 20 if is_wide else 14) + " ")
    after = f"  (+{more} more)" if more else ""
    text = clean(event.text)
    if is_wide and event.process > 0 and event.topic:
        text += f"   by broker {event.process}"
    row.add(cut(text, max(8, width - row.width - len(after)), view.marks.more),
            "cursor" if event.type == COMMAND else "")  # fmt: skip
    row.add(after, "dim")
    return row.line()
