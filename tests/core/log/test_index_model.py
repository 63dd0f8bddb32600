"""The two indexes of a segment against plain lists of what was put into them."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kcluster.core.log.index import OffsetIndex, TimeIndex

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
"""Of each model; `make fuzz` runs more."""
STEPS = st.one_of(st.integers(1, 3), st.integers(1, 1 << 20))
SOUGHT = st.integers(0, (1 << 32) - 1)


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.offset_index = OffsetIndex()
        self.time_index = TimeIndex()
        self.entries: list[tuple[int, int]] = []
        """(relative last offset, position)"""
        self.times: list[tuple[int, int]] = []
        """(timestamp, relative last offset) of entries, the timestamps rising."""
        self.offset = -1
        self.position = 0

    @rule(offsets=STEPS, size=STEPS, timestamp=st.integers(-1, 60))
    def append(self, offsets: int, size: int, timestamp: int) -> None:
        self.offset += offsets
        self.offset_index.append(self.offset, self.position)
        self.entries.append((self.offset, self.position))
        self.position += size
        self.time_index.append_if_later(timestamp, self.offset)
        if timestamp >= 0 and all(timestamp > known for known, _ in self.times):
            self.times.append((timestamp, self.offset))

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        """At the start of a batch: an indexed one, or one behind it."""
        if not self.entries:
            return
        number = data.draw(st.integers(0, len(self.entries) - 1))
        offset, position = self.entries[number]
        before = self.entries[number - 1][0] if number else -1
        end_offset = data.draw(st.integers(before + 1, offset))
        self.offset_index.truncate(position)
        self.time_index.truncate(end_offset)
        self.entries = [entry for entry in self.entries if entry[1] < position]
        self.times = [entry for entry in self.times if entry[1] < end_offset]
        self.offset, self.position = end_offset - 1, position

    @rule(sought=SOUGHT, near=st.integers(-1, 1), data=st.data())
    def look_up(self, sought: int, near: int, data: st.DataObject) -> None:
        if self.entries and data.draw(st.booleans()):
            offset, position = data.draw(st.sampled_from(self.entries))
        else:
            offset = position = sought
        offset, position = max(offset + near, 0), max(position + near, 0)
        entries = self.entries
        assert self.offset_index.floor(offset) == sum(o <= offset for o, _ in entries) - 1
        assert self.offset_index.floor_position(position) == (
            sum(at <= position for _, at in entries) - 1
        )
        assert self.offset_index.from_position(position) == [
            entry for entry in entries if entry[1] >= position
        ]

    @rule(timestamp=st.integers(-1, 62))
    def look_up_a_time(self, timestamp: int) -> None:
        assert self.time_index.floor(timestamp) == sum(t < timestamp for t, _ in self.times) - 1

    @rule(timestamp=st.integers(-1, 70))
    def write_and_load(self, timestamp: int) -> None:
        """As sealing does, which adds the largest timestamp; then a restart."""
        offsets = OffsetIndex.decode(self.offset_index.encode())
        times = TimeIndex.decode(self.time_index.encode(timestamp, self.offset + 1))
        assert offsets is not None
        assert times is not None
        self.offset_index = offsets
        expected = list(self.times)
        if timestamp >= 0 and all(timestamp > known for known, _ in self.times):
            expected.append((timestamp, self.offset + 1))
        assert list(zip(times.timestamps, times.offsets, strict=True)) == expected

    @invariant()
    def columns_are_the_lists(self) -> None:
        index, times = self.offset_index, self.time_index
        assert list(zip(index.offsets, index.positions, strict=True)) == self.entries
        assert list(zip(times.timestamps, times.offsets, strict=True)) == self.times


IndexMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
TestIndexesAgainstLists = IndexMachine.TestCase
