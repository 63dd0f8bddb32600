"""The whole screen as lines, for a size: which panels there are, and how much room each has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kcluster.tui import keys, panels
from kcluster.tui.lines import Line, Row, box, clean, fit, plain, to_width
from kcluster.tui.marks import ASCII, to_ascii
from kcluster.tui.matrix import matrix
from kcluster.tui.story import story
from kcluster.tui.view import Menu, Page, View

WIDTH_MIN, HEIGHT_MIN = 60, 16
EVENTS_MORE = 6


class Room(NamedTuple):
    """Heights of the parts, from top to bottom; 0 for one that has no room."""

    has_cards: bool
    coordinator: int
    brokers: int
    body: int
    """Partitions, or a page in place of partitions and events."""
    events: int
    load: int


def divide(view: View, width: int, height: int) -> Room:
    brokers = len(view.snapshot.brokers) if view.snapshot is not None else 0
    partitions = len(view.snapshot.partitions) if view.snapshot is not None else 0
    has_cards = height >= 30 and brokers > 0 and width // brokers >= panels.CARD_WIDTH_MIN
    coordinator = 1 if height >= 30 else 0
    if has_cards:
        tall = panels.CARD_HEIGHT
    else:
        with_coordinator = not coordinator and height >= 20
        tall = 3 + with_coordinator + min(brokers, max(3, height // 4))
    # A kill is told in seven lines: command, signal, end, fencing, ISR, election, groups.
    events = (
        10
        if height >= 40
        else 8
        if height >= 36
        else 6
        if height >= 30
        else 5
        if height >= 22
        else 0
    )
    load = 3 if height >= 36 else 1 if view.load.phase != "off" else 0
    body = height - 2 - coordinator - tall - events - load
    if events:
        # Few partitions leave their room to the story.
        spare = max(0, min(EVENTS_MORE, body - partitions - 4))
        events, body = events + spare, body - spare
    return Room(has_cards, coordinator, tall, body, events, load)


def draw(view: View, width: int, height: int) -> list[Line]:
    """Exactly `height` lines, each exactly `width` wide."""
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        return _too_small(width, height)
    lines = _draw(view, width, height)
    assert len(lines) == height, f"{len(lines)} lines for {height}"
    if view.menu is not None and not view.menu.is_prompt:
        _lay_over(lines, _menu_box(view, view.menu, width), width)
    if view.problem and view.snapshot is not None:
        # It may all be otherwise by now.
        lines = [lines[0], *(tuple((text, "dim") for text, _ in line) for line in lines[1:-1]),
                 lines[-1]]  # fmt: skip
    if view.marks is ASCII:
        lines = [tuple((to_ascii(text), style) for text, style in line) for line in lines]
    return lines


def _draw(view: View, width: int, height: int) -> list[Line]:
    snapshot = view.snapshot
    lines = [panels.health(view, width)]
    if snapshot is None:
        lines += [fit((), width)] * (height - 2)
        return [*lines, footer(view, width)]
    room = divide(view, width, height)
    if room.coordinator:
        lines.append(panels.coordinator(view, width))
    if room.has_cards:
        lines += panels.cards(view, width)
    else:
        with_coordinator = not room.coordinator and height >= 20
        lines += panels.table(view, width, room.brokers, with_coordinator=with_coordinator)
    if view.page is not None:
        lines += page_box(view, view.page, width, room.body + room.events)
    else:
        lines += matrix(view, width, room.body)
        if room.events:
            lines += story(view, width, room.events)
    if room.load == 3:
        hint = "g stop" if view.load.is_on else "g start"
        lines += box("load", [panels.load(view, width - 2)], width, 3, view.marks, hint=hint)
    elif room.load:
        lines.append(Row().add(" load ", "label").extend(panels.load(view, width - 6)).line(width))
    return [*lines, footer(view, width)]


def footer(view: View, width: int) -> Line:
    """What was just done, what is asked, or the keys."""
    row = Row()
    if view.menu is not None and view.menu.is_prompt:
        row.add(f" {clean(view.menu.title)}  ", "reverse")
        for choice in view.menu.choices:
            row.add("  ").add(choice.key, "key").add(f" {choice.text}")
        return row.add("   ").add("esc", "key").add(" back").line(width)
    if view.is_typing:
        row.add(" filter: ", "reverse").add(f" {clean(view.filter)}_ ")
        return row.add("  words of the name; enter keeps it, esc clears it", "dim").line(width)
    if view.note:
        return row.add(f" {view.note}", view.note_style or "focus").line(width)
    return row.add(keys.brief(width, is_read_only=view.is_read_only), "dim").line(width)


def page_height(view: View, width: int, height: int) -> int:
    """Rows that a page can show."""
    room = divide(view, width, height)
    head = view.page is not None and view.page.head is not None
    return max(1, room.body + room.events - 2 - head)


def page_box(view: View, page: Page, width: int, height: int) -> list[Line]:
    head = [page.head] if page.head is not None else []
    rows = page.rows
    room = height - 2 - len(head)
    last = max(0, len(rows) - room)
    first = last if page.is_tail else min(page.scroll, last)
    shown = head + rows[first : first + room]
    title = page.title
    if len(rows) > room:
        title += f"  {first + 1}-{min(len(rows), first + room)} of {len(rows)}"
    hint = page.hint or "↑ ↓ move   esc back"
    return box(title, shown, width, height, view.marks, hint=hint, is_active=True)


def help_rows(*, is_read_only: bool) -> list[Line]:
    rows: list[Line] = []
    for key in keys.KEYS:
        if key.text and not (is_read_only and key.breaks):
            rows.append(((f"  {key.shown:<8}", "key"), (key.text, "")))
    rows += [
        (),
        (("  In the matrix: ", "dim"), ("L leads, F follows in sync, f fell out of the ISR,", "")),
        (("                 ", "dim"), ("x its broker is down, ! its log failed.", "")),
        (("  Lag: ", "dim"), ("records that the leader has and this replica lacks.", "")),
        (("  URP: ", "dim"), ("partitions with fewer in-sync replicas than assigned.", "")),
    ]
    return rows


def _menu_box(view: View, menu: Menu, width: int) -> list[Line]:
    rows: list[Line] = [
        ((f"  {choice.key}  ", "key"), (choice.text + "  ", "")) for choice in menu.choices
    ]
    rows.append((("  esc  ", "key"), ("back", "")))
    wide = min(width - 4, max(len(menu.title) + 6, *(len(plain(row)) + 3 for row in rows)))
    return box(menu.title, rows, wide, len(rows) + 2, view.marks, is_active=True)


def _lay_over(lines: list[Line], over: Sequence[Line], width: int) -> None:
    """In the middle, over what is there."""
    wide = len(plain(over[0]))
    at_x, at_y = (width - wide) // 2, max(1, (len(lines) - len(over)) // 2)
    for place, line in enumerate(over[: len(lines) - 2], at_y):
        before, behind = (
            to_width(lines[place], at_x),
            to_width(lines[place], at_x + wide, is_rest=True),
        )
        lines[place] = (*before, *line, *behind)


def _too_small(width: int, height: int) -> list[Line]:
    said = [
        fit((("terminal too small", "warn"),), width),
        fit(((f"{width}x{height}; {WIDTH_MIN}x{HEIGHT_MIN} will do", "dim"),), width),
    ]
    return (said + [fit((), width)] * height)[:height]
