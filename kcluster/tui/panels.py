"""The panels around the partitions: health in words, brokers, the story of events, the load."""

from __future__ import annotations

from kcluster.client.snapshot import BrokerStatus, ClusterSnapshot, CoordinatorStatus
from kcluster.model import COORDINATOR
from kcluster.tui import figures
from kcluster.tui.history import Traffic
from kcluster.tui.lines import Line, Row, Span, beside, box, clean, left, right
from kcluster.tui.marks import Marks, block
from kcluster.tui.view import View

CARD_HEIGHT = 8
CARD_WIDTH_MIN = 30

STATE = 14
"""Cells of a state in the table: "✗ KILLED 59s"."""

HEALTH = {
    "ok": ("HEALTHY", "good"),
    "degraded": ("DEGRADED", "warn"),
    "unavailable": ("UNAVAILABLE", "bad"),
}


def health(view: View, width: int) -> Line:
    snapshot = view.snapshot
    row = Row().add(f" {clean(view.name)}  ", "title")
    if snapshot is None:
        return row.add(view.problem or "asking the cluster…", "warn").line(width)
    word, style = HEALTH[snapshot.health]
    marks = view.marks
    mark = {"good": marks.up, "warn": marks.warns, "bad": marks.dead}[style]
    if view.problem:
        row.add(f"{marks.dead} NO ANSWER  ", "bad").add(clean(view.problem), "warn")
        return row.line(width)
    running = sum(broker.state == "running" for broker in snapshot.brokers)
    under = sum(partition.is_under_replicated for partition in snapshot.partitions)
    offline = sum(partition.is_offline for partition in snapshot.partitions)
    is_wide = width >= 110
    row.add(f"{mark} {word}", style)
    row.add(f"  {'brokers ' if is_wide else ''}{running}/{len(snapshot.brokers)}")
    row.add("  " if is_wide else " up  ")
    state_mark, state, state_style = state_of(snapshot.coordinator, snapshot.at_ms, marks)
    row.add("coordinator " if is_wide else "coord ")
    row.add(f"{state_mark} {state}" if is_wide or state != "up" else state_mark, state_style)
    row.add(f"  URP {under}", "warn" if under else "")
    if is_wide or offline:
        row.add(f"  offline {offline}", "bad" if offline else "")
    if view.is_frozen:
        row.add("  ").add(" FROZEN, space goes on ", "reverse")
    elif view.is_read_only:
        row.add("  ").add("read-only", "dim")
    end = Row()
    total_in = sum(view.traffic[b.id].rate_in for b in snapshot.brokers)
    total_out = sum(view.traffic[b.id].rate_out for b in snapshot.brokers)
    if is_wide:
        end.add(f"in {figures.rate(total_in)}  out {figures.rate(total_out)}  up ")
    else:
        end.add(f"in {figures.short_rate(total_in)} out {figures.short_rate(total_out)}/s  ")
    end.add(f"{figures.uptime(snapshot.up_ms)} ")
    if row.width + 2 + end.width <= width:
        row.gap(width - end.width).extend(end.line())
    return row.line(width)


def coordinator(view: View, width: int) -> Line:
    """One line, and what is wrong in words behind it."""
    snapshot = view.snapshot
    if snapshot is None:
        return Row().line(width)
    if view.problem:
        when = figures.clock(snapshot.at_ms, with_ms=False)
        return Row().add(f" what follows is how it was at {when}, when last heard of").line(width)
    own = snapshot.coordinator
    mark, state, style = state_of(own, snapshot.at_ms, view.marks)
    is_selected = view.selected == COORDINATOR
    row = Row().add(view.marks.cursor if is_selected else " ", "focus")
    row.add("0 coordinator ", "title" if is_selected else "").add(f"{mark} {state}", style)
    if own.pid:
        cpu = _percent(view.traffic.get(COORDINATOR))
        row.add(f"  pid {own.pid}  cpu {cpu}  rss {figures.size(own.rss)}")
    row.add(f"  metadata offset {own.metadata_offset if own.metadata_offset is not None else '?'}")
    if snapshot.problems:
        row.add("   ").add("; ".join(map(clean, snapshot.problems)), "warn")
    return row.line(width)


def state_of(
    status: BrokerStatus | CoordinatorStatus, now_ms: int, marks: Marks
) -> tuple[str, str, str]:
    """Mark, words and style."""
    since = figures.age(now_ms - status.since_ms)
    match status.state:
        case "running" if getattr(status, "is_fenced", False):
            return marks.warns, "fenced", "warn"
        case "running":
            return marks.up, "up", "good"
        case "starting":
            return marks.starts, "starting", "warn"
        case "paused":
            return marks.pauses, f"PAUSED {since}", "warn"
        case "stopped":
            return marks.starts, f"stopped {since} ago", "dim"
        case "killed" | "failed":
            return marks.dead, f"{status.state.upper()} {since} ago", "bad"
    return marks.warns, status.state, "warn"


# --- brokers ------------------------------------------------------------------------------


def cards(view: View, width: int) -> list[Line]:
    snapshot = view.snapshot
    assert snapshot is not None
    brokers = snapshot.brokers
    each = width // len(brokers)
    widths = [each] * (len(brokers) - 1) + [width - each * (len(brokers) - 1)]
    return beside(
        [_card(view, snapshot, broker, wide) for broker, wide in zip(brokers, widths, strict=True)]
    )


def _card(view: View, snapshot: ClusterSnapshot, broker: BrokerStatus, width: int) -> list[Line]:
    marks = view.marks
    traffic = view.traffic[broker.id]
    inner = width - 4
    is_selected = view.selected == broker.id
    mark, state, style = state_of(broker, snapshot.at_ms, marks)
    if broker.pid:
        first = (
            f"pid {broker.pid}  :{broker.port}  cpu {_percent(traffic)}"
            f"  rss {figures.size(broker.rss)}"
        )
        if len(first) > inner:
            first = f":{broker.port} cpu {_percent(traffic)} rss {figures.size(broker.rss)}"
        words: Line = ((first, ""),)
    else:
        end = clean(broker.last_end).replace(" by command", "") or state
        words = ((end, style), ("   r restart   l log", "dim"))
    biggest = max((each.size or 0 for each in snapshot.brokers), default=0) or 1
    graph = max(4, inner - 17)
    rows = [
        words,
        _flow("in ", list(traffic.bytes_in), traffic, graph, marks),
        _flow("out", list(traffic.bytes_out), traffic, graph, marks),
        _disk(broker, biggest, graph, marks),
        (
            (f"leads {broker.leads}/{broker.replicas}   max lag ", ""),
            (figures.count(broker.max_lag), "warn" if broker.max_lag else ""),
        ),
        ((_connections(broker), "dim"),),
    ]
    lines = box(
        f"{broker.id} {mark} {state}",
        [((" ", ""), *row) for row in rows],
        width,
        CARD_HEIGHT,
        marks,
        is_active=is_selected,
        title_style=style,
    )
    if is_selected:
        (corner, edge), *rest = lines[0]
        lines[0] = ((marks.cursor, "focus"), (corner[1:], edge), *rest)
    return lines


def _connections(broker: BrokerStatus) -> str:
    counters = broker.counters
    if counters is None or not broker.pid:
        return ""
    return f"{counters.connections} connections  {counters.traffic.records_in:,} records in"


def _flow(name: str, samples: list[float], traffic: Traffic, width: int, marks: Marks) -> Line:
    text = figures.rate(samples[-1] if samples else 0.0)
    return ((f"{name} ", "label"), *spark(samples, traffic, width, marks), (f"  {text:>10}", ""))


def spark(samples: list[float], traffic: Traffic, width: int, marks: Marks) -> Line:
    """The last seconds, each as high as its share of the highest."""
    samples = samples[-width:]
    alive = list(traffic.is_alive)[-width:]
    top = max(samples, default=0.0) or 1.0
    text = "".join(
        block(marks.blocks, value / top) if value or lives else marks.none
        for value, lives in zip(samples, alive, strict=True)
    )
    return ((" " * (width - len(text)), ""), (text, "graph"))


def _disk(broker: BrokerStatus, biggest: int, width: int, marks: Marks) -> Line:
    full = round(width * (broker.size or 0) / biggest)
    text = f"{figures.size(broker.size)} {figures.count(broker.segments)} seg"
    return (
        ("disk ", "label"), (marks.fill * full, "bar"), (marks.rest * (width - full), "dim"),
        (f" {text:>10}", ""),
    )  # fmt: skip


def _percent(traffic: Traffic | None) -> str:
    if traffic is None or traffic.cpu is None:
        return figures.NONE
    return f"{traffic.cpu * 100:.0f}%"


def table(view: View, width: int, height: int, *, with_coordinator: bool) -> list[Line]:
    """A row for each broker, where cards have no room."""
    snapshot = view.snapshot
    assert snapshot is not None
    inner = width - 2
    # ID STATE CPU RSS | IN graph rate OUT | DISK bar size | SEG LEAD LAG
    # One blank at the end; a narrow screen does without CPU and RSS.
    fixed = 4 + STATE + 6 + 6 + 6 + 5 + 6 + 7 + 1
    has_process = inner >= fixed + 11
    fixed += 11 * has_process
    spare = max(0, inner - fixed)
    graph = min(24, spare // 2) if spare >= 4 else 0
    bar = min(20, spare - graph - 2) if spare - graph >= 6 else 0
    head = (
        Row()
        .add(" ID ")
        .add(f"{'STATE':<{STATE}}")
        .add(f"{'CPU':>5}{'RSS':>6}" if has_process else "")
    )
    head.add(" " * graph).add(f"{'IN/s':>6}{'OUT/s':>6}").add(
        "  DISK".ljust(bar + 2) if bar else ""
    )
    head.add(f"{'SIZE' if bar else 'DISK':>6}{'SEG':>5}{'LEAD':>6}{'LAG':>7}")
    rows = [head.line(base="dim")]
    if with_coordinator:
        rows.append(_coordinator_row(view, snapshot))
    room = height - 2 - len(rows)
    ids = [broker.id for broker in snapshot.brokers]
    at = ids.index(view.selected) if view.selected in ids else 0
    first = max(0, min(at - room + 1, len(ids) - room))
    biggest = max((each.size or 0 for each in snapshot.brokers), default=0) or 1
    rows += [
        _broker_row(view, broker, graph, bar, biggest, has_process=has_process)
        for broker in snapshot.brokers[first : first + room]
    ]
    hidden = len(ids) - room
    hint = f"{hidden} more" if hidden > 0 else ""
    return box("brokers", rows, width, height, view.marks, hint=hint)


def _coordinator_row(view: View, snapshot: ClusterSnapshot) -> Line:
    own = snapshot.coordinator
    is_selected = view.selected == COORDINATOR
    row = Row().add(view.marks.cursor if is_selected else " ", "focus")
    row.add("0  ", "title" if is_selected else "").extend(_state(own, snapshot, view.marks))
    row.add(right(_percent(view.traffic.get(COORDINATOR)), 5))
    row.add(right(figures.size(own.rss) if own.pid else "-", 6)).add("  coordinator", "dim")
    if own.metadata_offset is not None:
        row.add(f", metadata offset {own.metadata_offset}", "dim")
    return row.line()


def _state(
    status: BrokerStatus | CoordinatorStatus, snapshot: ClusterSnapshot, marks: Marks
) -> Line:
    mark, state, style = state_of(status, snapshot.at_ms, marks)
    return ((left(f"{mark} {state.removesuffix(' ago')}", STATE), style),)


def _broker_row(
    view: View, broker: BrokerStatus, graph: int, bar: int, biggest: int, *, has_process: bool
) -> Line:
    assert view.snapshot is not None
    traffic = view.traffic[broker.id]
    is_selected = view.selected == broker.id
    row = Row().add(view.marks.cursor if is_selected else " ", "focus")
    row.add(f"{broker.id:<3}", "title" if is_selected else "")
    row.extend(_state(broker, view.snapshot, view.marks))
    if has_process:
        row.add(right(_percent(traffic) if broker.pid else "-", 5))
        row.add(right(figures.size(broker.rss) if broker.pid else "-", 6))
    if graph:
        row.add(" ").extend(spark(list(traffic.bytes_in), traffic, graph - 1, view.marks))
    row.add(right(figures.short_rate(traffic.rate_in), 6))
    row.add(right(figures.short_rate(traffic.rate_out), 6))
    if bar:
        full = round(bar * (broker.size or 0) / biggest)
        row.add("  ").add(view.marks.fill * full, "bar").add(view.marks.rest * (bar - full), "dim")
    row.add(right(figures.size(broker.size), 6)).add(right(figures.count(broker.segments), 5))
    row.add(right(str(broker.leads), 6))
    row.add(right(figures.count(broker.max_lag), 7), "warn" if broker.max_lag else "")
    return row.line()


# --- load ---------------------------------------------------------------------------------


def load(view: View, width: int) -> Line:
    return Row().extend(_load(view)).line(width)


def _load(view: View) -> list[Span]:
    state = view.load
    told = state.figures
    match state.phase:
        case "off":
            return [(" off", "dim"), ("   g writes checked records and reads them back", "dim")]
        case "starting":
            return [(" starting: ", "warn"), (state.command, "dim")]
        case "failed":
            return [(f" {view.marks.dead} {clean(state.problem)}", "bad")]
        case "over" if state.report is not None:
            report = state.report
            style = "good" if report.verdict == "ok" else "bad"
            return [
                (f" {report.verdict.upper()}", style),
                (f"   acked {report.acknowledged:,}   lost {report.lost:,}   ", ""),
                (f"duplicated {report.duplicated:,}   reordered {report.reordered:,}   ", ""),
                (f"longest gap {figures.latency(report.longest_gap_ms)}", ""),
            ]
    if told is None:
        return [(f" {state.phase}", "warn")]
    spans: list[Span] = [
        (f" {figures.count(round(state.rate))} rec/s   ", ""),
        (f"p50 {figures.latency(told.p50_ms)}   p99 {figures.latency(told.p99_ms)}   ", ""),
        (f"acked {told.acknowledged:,}   ", ""),
        (f"longest gap {figures.latency(told.longest_gap_ms)}   ", ""),
    ]
    if told.failed or told.unknown:
        spans.append((f"failed {told.failed:,} unknown {told.unknown:,}   ", "warn"))
    if state.phase == "ending":
        spans.append(("reading every replica…", "warn"))
    else:
        spans.append(("lost, duplicated: counted when it ends", "dim"))
    return spans
