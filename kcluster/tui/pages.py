"""Pages: what takes the place of partitions and events while one looks closer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kcluster.client.admin import GROUPS_MS, Admin
from kcluster.client.snapshot import BrokerStatus, PartitionStatus
from kcluster.core.client.results import Group, GroupMember, GroupOffset
from kcluster.processes.workdir import locate, process_name
from kcluster.tui import figures
from kcluster.tui.lines import EMPTY, Line, Row, clean, left, right
from kcluster.tui.picture import help_rows
from kcluster.tui.story import line_of
from kcluster.tui.view import Page, View

Asked = tuple[Page, Callable[[], list[Line]]]

LOG_BYTES = 128 << 10
"""Of a log, from its end."""


def help_page(view: View) -> Page:
    return Page("help", "help", rows=help_rows(is_read_only=view.is_read_only))


# --- events -------------------------------------------------------------------------------


def events(view: View) -> Page:
    return Page("events", "events", is_tail=True)


def fill_events(view: View, page: Page, width: int) -> None:
    page.title = f"events: {view.level}"
    page.hint = "v shows: all, story, ...   ↑ ↓ move   esc back"
    found = sorted(view.events(), key=lambda event: event.at_ms)
    page.rows = [line_of(view, event, width - 2) for event in found]


# --- segments -----------------------------------------------------------------------------


def segments(view: View, partition: PartitionStatus) -> Asked:
    """What lies on the disks of its brokers: names and sizes of files, no content."""
    name = f"{clean(partition.topic)}-{partition.partition}"
    page = Page("segments", f"segments of {name}")
    directory = f"{partition.topic}-{partition.partition}"

    def ask() -> list[Line]:
        snapshot = view.snapshot
        if snapshot is None:
            return []
        now = next(
            (p for p in snapshot.partitions
             if (p.topic, p.partition) == (partition.topic, partition.partition)), None
        )  # fmt: skip
        if now is None:
            return [((f"  {name} is no more", "warn"),)]
        brokers = {broker.id: broker for broker in snapshot.brokers}
        rows: list[Line] = [
            ((f"  leader {now.leader}   leader epoch {now.leader_epoch}   ISR {now.isr}", ""),
             (f"   ELR {now.elr}" if now.elr else "", "warn")),
        ]  # fmt: skip
        for replica in now.replicas:
            broker = brokers.get(replica.broker)
            if broker is None:
                continue
            rows.append(EMPTY)
            rows.append(
                ((f"  broker {replica.broker}  ", "title"), (f"{replica.role}  ", "label"),
                 (f"offsets {replica.log_start}..{replica.log_end}"
                  f"  high watermark {replica.high_watermark}"
                  f"  lag {figures.count(replica.lag)}  {figures.size(replica.size)}", ""),
                 (f"  {clean(replica.problem)}", "bad"))
            )  # fmt: skip
            rows += _files(broker, directory, replica.log_end)
        return rows

    return page, ask


def _files(broker: BrokerStatus, directory: str, log_end: int | None) -> Iterator[Line]:
    head = f"    {'BASE OFFSET':>20}{'RECORDS':>12}{'LOG':>8}{'INDEX':>8}{'TIME':>8}{'AGE':>6}"
    yield ((head, "dim"),)
    path = Path(broker.data_dir) / directory
    logs = sorted(path.glob("*.log"))
    for place, log in enumerate(logs):
        base = int(log.stem) if log.stem.isdecimal() else 0
        is_active = place == len(logs) - 1
        end = log_end if is_active else int(logs[place + 1].stem)
        try:
            found = log.stat()
        except OSError:
            continue  # retention was faster
        age = figures.age(int((time.time() - found.st_mtime) * 1000))
        row = Row().add(f"    {base:>20}")
        row.add(right(f"{max(0, end - base):,}" if end is not None else "-", 12))
        row.add(right(figures.size(found.st_size), 8))
        for suffix in (".index", ".timeindex"):
            row.add(right(figures.size(_bytes_of(log.with_suffix(suffix))), 8))
        row.add(right(age, 6)).add("  active" if is_active else "", "active")
        yield row.line()


def _bytes_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


# --- logs ---------------------------------------------------------------------------------


def log(view: View) -> Asked:
    """Of the selected process."""
    name = process_name(view.selected)
    page = Page("log", f"log of {name}", is_tail=True)
    path = locate(view.name) / "logs" / f"{name}.log"

    def ask() -> list[Line]:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - LOG_BYTES))
            data = file.read(LOG_BYTES)
        lines = data.decode("utf-8", "replace").splitlines()
        if end > LOG_BYTES:
            lines = lines[1:]
        return [_log_line(clean(text.expandtabs(4))) for text in lines]

    return page, ask


def _log_line(text: str) -> Line:
    """Its wall clock in ms, which each begins with, as people read it."""
    at_ms, blank, said = text.partition(" ")
    if not blank or len(at_ms) != 13 or not at_ms.isdecimal():
        return ((f" {text}", ""),)
    return ((f" {figures.clock(int(at_ms))} ", "dim"), (said, ""))


# --- groups -------------------------------------------------------------------------------


def groups(view: View) -> Asked:
    page = Page("groups", "consumer groups")

    def ask() -> list[Line]:
        with Admin(cluster=view.name, timeout_ms=GROUPS_MS) as admin:
            return group_rows(admin.describe_groups())

    return page, ask


def group_rows(found: Sequence[Group]) -> list[Line]:
    """Each group, the furthest behind first, and below it how far behind each member is."""
    if not found:
        return [(("  no groups; one begins with kcluster consume TOPIC -g GROUP", "dim"),)]
    rows: list[Line] = []
    for group in sorted(found, key=lambda group: (-_lag(group), not group.members, group.group)):
        total = _lag(group)
        rows.append(
            ((f"  {clean(group.group)}  ", "title"),
             (group.state, "good" if group.state == "Stable" else "warn"),
             (f"  {clean(group.protocol)}  coordinator {group.coordinator}  members"
              f" {len(group.members)}  lag ", ""), (figures.count(total), "warn" if total else ""))
        )  # fmt: skip
        for member in group.members:
            own = [each for each in group.partitions if each.member == member.member]
            rows.append(_member(_called(member), member.host, own))
        free = [each for each in group.partitions if not each.member]
        if free:
            rows.append(_member("nobody reads", "", free))
        rows.append(EMPTY)
    return rows


def _lag(group: Group) -> int:
    return sum(each.lag or 0 for each in group.partitions)


def _called(member: GroupMember) -> str:
    """By its client id; members of one program have the same, so by the end of its own, too."""
    return clean(f"{member.client_id} …{member.member[-6:]}" if member.client_id else member.member)


def _member(name: str, host: str, own: Sequence[GroupOffset]) -> Line:
    lag = sum(each.lag or 0 for each in own)
    row = Row().add("    ").add(left(name, 28), "label").add(left(clean(host), 16))
    row.add(right(f"lag {figures.count(lag)}", 11), "warn" if lag else "").add("   ")
    worst = sorted(own, key=lambda each: -(each.lag or 0))
    shown = ", ".join(
        f"{clean(each.topic)}-{each.partition} {figures.count(each.lag)}" for each in worst
    )
    return row.add(shown, "dim").line()
