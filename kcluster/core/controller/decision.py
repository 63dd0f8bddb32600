"""One decision of the controller: the records it makes, replayed as they are made.

    decide: decision.add(record) --> replayed into the image at once, so that what follows in
                                     the same decision sees it
    commit: all records of one decision are one batch of the metadata log; what the decision
            answers leaves when that batch is durable (safety rule 7)

A decision must know that it holds before it adds its first record: there is no undo.
"""

from __future__ import annotations

from typing import Any

from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.records import Record
from kcluster.core.turn import Turn


class Decision:
    __slots__ = ("first_offset", "image", "now_ms", "records", "traces", "wall_ms")

    def __init__(self, image: ClusterImage, turn: Turn, first_offset: int) -> None:
        self.image = image
        self.now_ms = turn.now_ms
        self.wall_ms = turn.wall_ms
        self.first_offset = first_offset
        """Offset that its first record will have."""
        self.records: list[Record] = []
        self.traces: list[Any] = []

    @property
    def next_offset(self) -> int:
        """Offset of the next record to be added."""
        return self.first_offset + len(self.records)

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.image.replay(record)

    def trace(self, trace: Any) -> None:
        self.traces.append(trace)
