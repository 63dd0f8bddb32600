"""What the screen shows, and what its keys change: a model that knows no toolkit.

It takes sights (a snapshot and the events since the last one) as they come. While it is frozen it
keeps the picture as it was and collects; nothing is lost when it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from kcluster.client.snapshot import (
    BrokerStatus,
    ClusterSnapshot,
    CoordinatorStatus,
    PartitionStatus,
)
from kcluster.client.watch import Sight
from kcluster.model import COORDINATOR
from kcluster.tui.history import STEP_MS, Traffic
from kcluster.tui.lines import Line, clean
from kcluster.tui.load_figures import LoadState
from kcluster.tui.marks import UNICODE, Marks
from kcluster.wire.events import ClusterEvent

EVENTS_MAX = 2_000
NOISE = 100
"""Records that a replica in sync may lack at any moment: rows do not change places for them."""

NOTE_MS = 6_000
"""How long a note stands in the place of the keys."""

ORDERS = ("lag", "name", "size")
PANELS = ("partitions", "events")
LEVELS = ("story", "all", "chaos", "election", "isr", "segment", "group")
"""What the event panel shows; `story` is what a person follows when something dies;
elections and ISRs tell what becomes of it, so what each replica makes of that is left out."""

NOT_STORY = frozenset({"role", "log"})

Key = tuple[str, int]


@dataclass(slots=True)
class Choice:
    key: str
    """Of the keyboard."""
    text: str
    action: str
    """What it does, as the app's actions are called."""


@dataclass(slots=True)
class Menu:
    """A question, in the last line or in a box; one key answers it, esc goes back."""

    title: str
    choices: list[Choice]
    is_prompt: bool = False


@dataclass(slots=True)
class Page:
    """What takes the place of partitions and events for a while."""

    kind: str
    title: str
    hint: str = ""
    rows: list[Line] = field(default_factory=list)
    head: Line | None = None
    scroll: int = 0
    """Rows above the first one shown."""
    is_tail: bool = False
    """The newest row is the last one and stays in sight, unless the reader has gone up."""

    def move(self, by: int, height: int) -> None:
        last = max(0, len(self.rows) - height)
        at = (last if self.is_tail else min(self.scroll, last)) + by
        self.scroll = max(0, min(last, at))
        if self.kind in ("log", "events"):
            self.is_tail = self.scroll == last


@dataclass(slots=True)
class View:
    name: str
    marks: Marks = UNICODE
    is_read_only: bool = False
    snapshot: ClusterSnapshot | None = None
    problem: str = ""
    """Why nothing new is heard; empty while it is."""
    traffic: dict[int, Traffic] = field(default_factory=dict)
    story: deque[ClusterEvent] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    selected: int = 1
    """A broker's id, or 0 for the coordinator."""
    cursor: Key | None = None
    filter: str = ""
    is_typing: bool = False
    """The filter takes the keys."""
    order: str = "lag"
    panel: str = "partitions"
    level: str = "story"
    is_frozen: bool = False
    menu: Menu | None = None
    page: Page | None = None
    note: str = ""
    """What the last key did or could not do."""
    note_style: str = ""
    note_ms: int = 0
    """When, by the clock of the snapshots."""
    load: LoadState = field(default_factory=LoadState)
    _pending: list[ClusterEvent] = field(default_factory=list)
    _pending_snapshot: ClusterSnapshot | None = None
    _rows: list[Key] = field(default_factory=list)
    _rows_of: tuple[object, ...] = ()
    _seq: count[int] = field(default_factory=lambda: count(-2, -1))

    # --- hearing --------------------------------------------------------------------------

    def take(self, sight: Sight) -> None:
        self.problem = ""
        if self.is_frozen:
            self._pending_snapshot = sight.snapshot
            self._pending = (self._pending + sight.events)[-EVENTS_MAX:]
            return
        self._show(sight.snapshot, sight.events)

    def lose(self, problem: str) -> None:
        """Nobody tells anything any more. What was known stays on the screen, and says so."""
        self.problem = problem

    def tell(self, event: ClusterEvent) -> None:
        """Something of this screen's own."""
        (self._pending if self.is_frozen else self.story).append(event)

    def next_seq(self) -> int:
        """Below those of the journal: this event is nobody else's."""
        return next(self._seq)

    def freeze(self) -> None:
        self.is_frozen = not self.is_frozen
        if not self.is_frozen:
            snapshot, self._pending_snapshot = self._pending_snapshot, None
            events, self._pending = self._pending, []
            if snapshot is not None:
                self._show(snapshot, events)
            else:
                self.story.extend(events)

    def _show(self, snapshot: ClusterSnapshot, events: Iterable[ClusterEvent]) -> None:
        self.snapshot = snapshot
        self.story.extend(events)
        if self.note and snapshot.at_ms - self.note_ms > NOTE_MS:
            self.note = ""
        statuses: dict[int, BrokerStatus | CoordinatorStatus] = {COORDINATOR: snapshot.coordinator}
        statuses.update({broker.id: broker for broker in snapshot.brokers})
        for id, status in statuses.items():
            self.traffic.setdefault(id, Traffic()).take(status, snapshot.at_ms)
        if self.selected and self.selected not in (ids := [b.id for b in snapshot.brokers]):
            self.selected = ids[0] if ids else COORDINATOR

    # --- brokers --------------------------------------------------------------------------

    @property
    def broker(self) -> BrokerStatus | None:
        """The selected one; None for the coordinator."""
        brokers = self.snapshot.brokers if self.snapshot is not None else []
        return next((each for each in brokers if each.id == self.selected), None)

    @property
    def selected_name(self) -> str:
        return f"broker {self.selected}" if self.selected else "the coordinator"

    @property
    def selected_state(self) -> str:
        broker = self.broker
        if broker is not None:
            return broker.state
        return self.snapshot.coordinator.state if self.snapshot is not None else ""

    def select(self, id: int) -> bool:
        """False when there is no such broker."""
        if self.snapshot is None:
            return False
        if id != COORDINATOR and all(each.id != id for each in self.snapshot.brokers):
            return False
        self.selected = id
        return True

    # --- partitions -----------------------------------------------------------------------

    def partitions(self) -> list[PartitionStatus]:
        """Those that the filter takes, in order. Ordered anew once a second at most: what is
        read should stand still."""
        snapshot = self.snapshot
        if snapshot is None:
            return []
        order = (self.filter, self.order, len(snapshot.partitions), snapshot.at_ms // STEP_MS)
        found = {(each.topic, each.partition): each for each in snapshot.partitions}
        if order != self._rows_of or any(key not in found for key in self._rows):
            chosen = [each for each in snapshot.partitions if self._takes(each)]
            chosen.sort(key=_ORDERS[self.order])
            self._rows = [(each.topic, each.partition) for each in chosen]
            self._rows_of = order
        return [found[key] for key in self._rows]

    def _takes(self, partition: PartitionStatus) -> bool:
        if not self.filter:
            return True
        name = f"{partition.topic}-{partition.partition}".lower()
        return all(word in name for word in self.filter.lower().split())

    def partition(self) -> PartitionStatus | None:
        """Under the cursor."""
        rows = self.partitions()
        for row in rows:
            if (row.topic, row.partition) == self.cursor:
                return row
        return rows[0] if rows else None

    def move(self, by: int) -> None:
        rows = self.partitions()
        if not rows:
            return
        keys = [(row.topic, row.partition) for row in rows]
        at = keys.index(self.cursor) if self.cursor in keys else 0
        self.cursor = keys[max(0, min(len(keys) - 1, at + by))]

    def reorder(self) -> None:
        self.order = _after(ORDERS, self.order)

    # --- events ---------------------------------------------------------------------------

    def events(self) -> list[ClusterEvent]:
        """Of the level, oldest first."""
        if self.level == "all":
            return list(self.story)
        if self.level == "story":
            return [event for event in self.story if event.type not in NOT_STORY]
        return [event for event in self.story if event.type == self.level or event.seq < -1]

    def next_level(self) -> None:
        self.level = _after(LEVELS, self.level)

    def say(self, text: str, style: str = "") -> None:
        self.note, self.note_style = clean(text), style
        self.note_ms = self.snapshot.at_ms if self.snapshot is not None else 0


def _after(values: tuple[str, ...], value: str) -> str:
    return values[(values.index(value) + 1) % len(values)]


def worst_lag(partition: PartitionStatus) -> int:
    """Of a replica that matters: what one in sync lacks for a moment counts for nothing."""
    return max(
        (
            replica.lag
            for replica in partition.replicas
            if replica.lag and (replica.role != "in-sync" or replica.lag >= NOISE)
        ),
        default=0,
    )


def _size(partition: PartitionStatus) -> int:
    return max((replica.size or 0 for replica in partition.replicas), default=0)


_ORDERS: dict[str, Callable[[PartitionStatus], tuple[object, ...]]] = {
    "lag": lambda p: (
        not p.is_offline, -worst_lag(p), not p.is_under_replicated, -_size(p).bit_length(), p.topic,
        p.partition
    ),
    "name": lambda p: (p.topic, p.partition),
    "size": lambda p: (-_size(p), p.topic, p.partition),
}  # fmt: skip
