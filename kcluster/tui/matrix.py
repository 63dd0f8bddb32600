"""The matrix of partitions and brokers: who leads, who is in sync, what lies on disk, who lags."""

from __future__ import annotations

from kcluster.client.snapshot import PartitionStatus, ReplicaStatus
from kcluster.tui import figures
from kcluster.tui.lines import Line, Row, box, clean, cut, left, right
from kcluster.tui.marks import Marks, block
from kcluster.tui.view import View

ROLES = {
    "leader": ("L", "leader"), "in-sync": ("F", ""), "behind": ("f", "warn"),
    "offline": ("!", "bad"), "down": ("x", "bad"),
}  # fmt: skip
"""Letters and styles."""

FULL, WITHOUT_SIZE, WITHOUT_BAR, LETTER = 22, 13, 8, 3
"""Widths of a cell from which on it has all, no size, no bar, a letter alone."""

FULL_REST, SHORT_REST = 16, 10
"""What a cell of these forms has besides its bar."""

NAME_MIN, MARK = 12, 10


def matrix(view: View, width: int, height: int) -> list[Line]:
    snapshot = view.snapshot
    assert snapshot is not None
    inner = width - 2
    rows = view.partitions()
    brokers, first_broker, name, cell = _columns(view, rows, inner)
    lines = [_head(view, brokers, name, cell)]
    with_legend = height >= 12
    room = height - 3 - with_legend
    keys = [(row.topic, row.partition) for row in rows]
    at = keys.index(view.cursor) if view.cursor in keys else 0
    first = max(0, min(at - room // 2, len(rows) - room))
    is_active = view.panel == "partitions"
    for place, row in enumerate(rows[first : first + room], first):
        lines.append(_row(view, row, brokers, name, cell, is_cursor=is_active and place == at))
    if not rows:
        nothing = "no partition matches the filter" if view.filter else "no topics yet"
        lines.append(((f"  {nothing}", "dim"),))
    if not snapshot.partitions:
        lines.append((("  bootstrap address for clients: ", "dim"), (snapshot.bootstrap, "")))
    if with_legend:
        lines += [()] * (height - 3 - len(lines))
        lines.append(_legend(view.marks))
    title = f"partitions {len(rows)} of {len(snapshot.partitions)}"
    if len(brokers) < len(snapshot.brokers):
        title += f", brokers {first_broker + 1}-{first_broker + len(brokers)}"
    if view.filter or view.is_typing:
        title += f"  / {clean(view.filter)}{'_' if view.is_typing else ''}"
    order = f"o order: {view.order}"
    hint = f"/ filter   {order}   enter: segments" if width >= 100 else f"/ filter  {order}"
    return box(title, lines, width, height, view.marks, hint=hint, is_active=is_active)


def _columns(
    view: View, rows: list[PartitionStatus], inner: int
) -> tuple[list[int], int, int, int]:
    """Ids of the brokers shown, the place of the first, and the widths of names and of cells."""
    assert view.snapshot is not None
    ids = [broker.id for broker in view.snapshot.brokers]
    longest = max((len(row.topic) + len(str(row.partition)) + 1 for row in rows), default=0)
    room = inner - 2 - MARK
    name = max(NAME_MIN, min(longest, room - len(ids) * (FULL + 2)))
    cell = (room - name) // max(1, len(ids))
    shown = len(ids)
    if cell < LETTER:
        cell, shown = LETTER, (room - name) // LETTER
    at = ids.index(view.selected) if view.selected in ids else 0
    first = max(0, min(at - shown // 2, len(ids) - shown))
    return ids[first : first + shown], first, name, min(cell, 40)


def _head(view: View, brokers: list[int], name: int, cell: int) -> Line:
    row = Row().add("  ").add(left("PARTITION", name), "dim").add(right("HIGH-WM ", MARK), "dim")
    for id in brokers:
        style = "title" if id == view.selected else "dim"
        if cell >= FULL:
            bar = cell - FULL_REST
            row.add(" ").add(left(f"B{id}", 3), style).add(
                left("segments" if bar > 9 else "segs", bar - 1), "dim"
            )
            row.add(right("size", 7) + " " + right("lag", 4) + " ", "dim")
        elif cell >= WITHOUT_SIZE:
            bar = cell - SHORT_REST
            row.add(" ").add(left(f"B{id}", 3), style).add(
                left("segments" if bar > 9 else "segs", bar - 1), "dim"
            )
            row.add(right("lag", 6) + " ", "dim")
        elif cell >= WITHOUT_BAR:
            row.add(" ").add(left(f"B{id}", cell - 6), style).add(right("lag", 5), "dim")
        else:
            row.add(left(f" {id}", cell), style)
    return row.line()


def _row(
    view: View, partition: PartitionStatus, brokers: list[int], name: int, cell: int,
    *, is_cursor: bool,
) -> Line:  # fmt: skip
    marks = view.marks
    row = Row().add(f"{marks.cursor} " if is_cursor else "  ", "focus")
    number = f"-{partition.partition}"
    text = cut(clean(partition.topic), name - len(number), marks.more) + number
    style = "bad" if partition.is_offline else "warn" if partition.is_under_replicated else ""
    row.add(left(text, name), "cursor" if is_cursor else style)
    replicas = {replica.broker: replica for replica in partition.replicas}
    leader = replicas.get(partition.leader)
    row.add(right(_mark(leader, partition), MARK - 1) + " ")
    biggest = max((b for r in partition.replicas for _, b in r.segments), default=0)
    for id in brokers:
        _cell(row, replicas.get(id), biggest, cell, marks)
    return row.line()


def _mark(leader: ReplicaStatus | None, partition: PartitionStatus) -> str:
    if partition.is_offline:
        return "no leader"
    if leader is None or leader.high_watermark is None:
        return figures.NONE
    text = f"{leader.high_watermark:,}"
    return text if len(text) < MARK else figures.count(leader.high_watermark)


def _cell(
    row: Row, replica: ReplicaStatus | None, biggest: int, cell: int, marks: Marks
) -> None:  # fmt: skip
    if replica is None:
        row.add(" " * cell)
        return
    letter, style = ROLES[replica.role]
    if cell < WITHOUT_BAR:
        row.add(left(f" {letter}", cell), style)
        return
    row.add(" ").add(f"{letter} ", style)
    if cell >= WITHOUT_SIZE:
        bar = cell - (FULL_REST if cell >= FULL else SHORT_REST)
        row.extend(segments(replica, biggest, bar, marks))
        row.add("  ")
        if cell >= FULL:
            row.add(right(figures.size(replica.size), 5) + " ")
            row.add(right(figures.count(replica.lag), 4) + " ", _lag_style(replica))
        else:
            row.add(right(figures.count(replica.lag), 4) + " ", _lag_style(replica))
    else:
        row.add(right(figures.count(replica.lag), cell - 4) + " ", _lag_style(replica))


def _lag_style(replica: ReplicaStatus) -> str:
    if not replica.lag:
        return "dim" if replica.lag is None else ""
    return "" if replica.role == "in-sync" else "warn"


def segments(replica: ReplicaStatus, biggest: int, width: int, marks: Marks) -> Line:
    """One character each, oldest first, the last one active; as high as its share of the
    biggest. Where retention took some, or there are too many, a mark in front says so."""
    sizes = [size for _, size in replica.segments]
    if not sizes:
        return ((" " * width, ""),)
    gone = bool(replica.log_start)
    before = marks.none if gone else ""
    if len(sizes) + len(before) > width:
        before = marks.more
    sizes = sizes[-(width - len(before)) :]
    top = biggest or 1
    sealed = "".join(block(marks.blocks, size / top) for size in sizes[:-1])
    active = block(marks.active, sizes[-1] / top)
    filled = len(before) + len(sealed) + 1
    style = "dim" if replica.role in ("down", "offline") else "bar"
    return (
        (before, "dim"), (sealed, style), (active, "active" if style == "bar" else "dim"),
        (" " * (width - filled), ""),
    )  # fmt: skip


def _legend(marks: Marks) -> Line:
    parts = [
        ("L", "leader"), (" leader  ", "dim"), ("F", ""), (" in sync  ", "dim"),
        ("f", "warn"), (" fell out of ISR  ", "dim"), ("x", "bad"), (" broker down  ", "dim"),
        ("!", "bad"), (" log failed    ", "dim"), (marks.blocks[-1], "bar"),
        (" segment  ", "dim"), (marks.active[4], "active"), (" last: active  ", "dim"),
        (marks.none, "dim"), (" deleted before", "dim"),
    ]  # fmt: skip
    return ((" ", ""), *parts)
