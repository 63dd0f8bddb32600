"""The log against a plain list of batches: append, roll, truncate, delete from the start,
retention, crash, power loss, read."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from random import Random

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kcluster.config import LogConfig
from kcluster.core.log import cutting
from kcluster.core.log.partition_log import Restart
from kcluster.core.turn import Append
from kcluster.wire.records import HEADER, batches, patch, read_records
from tests.core.log.bench import WALL_MS, Bench, batch
from tests.core.log.test_index_model import EXAMPLES


@dataclass(frozen=True)
class Entry:
    base: int
    end: int
    epoch: int
    data: bytes
    timestamps: tuple[int, ...]


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        """What the log holds."""
        self.written: list[Entry] = []
        """What it held at the last commit."""
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.sequence: dict[int, int] = {}

    @initialize(
        segment_bytes=st.sampled_from([200, 700, 5000]), interval=st.sampled_from([0, 150, 4096])
    )
    def make(self, segment_bytes: int, interval: int) -> None:
        self.bench = Bench(
            LogConfig(segment_bytes=segment_bytes, index_interval_bytes=interval, retention_ms=-1)
        )

    # --- steps ----------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 4),
        size=st.integers(0, 200),
        later=st.integers(-50, 100),
        producer=st.sampled_from([-1, -1, 7, 8]),
        as_follower=st.booleans(),
    )
    def append(self, count: int, size: int, later: int, producer: int, as_follower: bool) -> None:
        timestamp = WALL_MS + self.end * 3 + later
        sequence = self.sequence.get(producer, 0)
        data = batch(
            count,
            size=size,
            timestamp=timestamp,
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=sequence if producer >= 0 else -1,
        )
        if producer >= 0:
            # The state is what tells which sequence comes next, whatever was cut off.
            known = self.bench.log.producers.view().get(producer)
            sequence = known[1][-1][1] + 1 if known else 0
            data = batch(count, size=size, timestamp=timestamp, producer_id=producer,
                         producer_epoch=0, base_sequence=sequence)  # fmt: skip
        if as_follower:
            patch(data, 0, self.end, self.epoch)
            self.bench.replicate(data)
        else:
            appended = self.bench.produce(data, self.epoch)
            assert appended.base_offset == self.end
        self.entries.append(
            Entry(
                self.end, self.end + count, self.epoch, bytes(data),
                tuple(timestamp + n for n in range(count)),
            )
        )  # fmt: skip
        self.end += count

    @rule(synced=st.booleans())
    def commit(self, synced: bool) -> None:
        self.bench.commit(synced=synced)
        assert not self.bench.failed
        self.written = list(self.entries)
        assert self.bench.log.written_end == self.end

    @rule()
    def roll(self) -> None:
        self.bench.log.roll(self.bench.turn)

    @rule()
    def new_epoch(self) -> None:
        self.epoch += 1
        self.bench.log.assign_epoch(self.bench.turn, self.epoch, self.end)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        offset = data.draw(st.integers(max(entry.base, self.start), entry.end - 1))
        self.bench.log.truncate_to(self.bench.turn, offset)
        self.entries = [kept for kept in self.entries if kept.end <= entry.base]
        self.end = entry.base
        # The batch goes whole, and the log start may have been in it.
        self.start = min(self.start, self.end)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def advance_start(self, data: st.DataObject) -> None:
        self.commit(True)
        entry = data.draw(st.sampled_from(self.entries))
        offset = data.draw(st.integers(entry.base, entry.end))
        self.bench.log.set_high_watermark(self.end)
        self.bench.log.advance_log_start(self.bench.turn, offset)
        self.start = max(self.start, offset)
        self.entries = [kept for kept in self.entries if kept.end > self.start]
        self.bench.commit()
        self.written = list(self.entries)

    @rule(
        retention_bytes=st.sampled_from([-1, 0, 300, 1000]),
        retention_ms=st.sampled_from([-1, 0, 40, 150]),
        data=st.data(),
    )
    def apply_retention(self, retention_bytes: int, retention_ms: int, data: st.DataObject) -> None:
        """Segments go from the start, none too young or needed for the size, none that is not
        committed, and no more than that is left."""
        self.commit(True)
        log, turn = self.bench.log, self.bench.turn
        high_watermark = data.draw(st.integers(self.start, self.end))
        log.set_high_watermark(high_watermark)
        wall_ms, turn.wall_ms = turn.wall_ms, WALL_MS + 3 * self.end
        log.config = msgspec.structs.replace(
            self.bench.config, retention_bytes=retention_bytes, retention_ms=retention_ms
        )
        deleted = log.apply_retention(turn)
        start = log.chain.bases[0]
        gone = [entry for entry in self.entries if deleted and entry.base < start]
        latest = [max(entry.timestamps) for entry in self.entries]
        due_ms = turn.wall_ms - retention_ms if retention_ms >= 0 else 0
        assert all(entry.end <= min(start, high_watermark) for entry in gone)
        if retention_bytes < 0:
            assert all(timestamp < due_ms for timestamp in latest[: len(gone)])
        elif retention_ms < 0 and gone:
            assert log.size_bytes >= retention_bytes
        first = log.chain.items[0]
        if first.size and first.end_offset <= high_watermark:
            held = [max(e.timestamps) for e in self.entries if start <= e.base < first.end_offset]
            assert retention_ms < 0 or max(held, default=due_ms) >= due_ms
            assert retention_bytes < 0 or log.size_bytes - first.size < retention_bytes
        turn.wall_ms, log.config = wall_ms, self.bench.config
        if deleted:
            self.start = max(self.start, start)
        self.entries = [entry for entry in self.entries if entry.end > self.start]
        self.bench.commit()
        self.written = list(self.entries)

    @rule(start=st.integers(0, 50))
    def truncate_fully(self, start: int) -> None:
        self.bench.log.truncate_fully(self.bench.turn, start)
        self.entries.clear()
        self.start = self.end = start

    @rule(restart=st.sampled_from([Restart.CRASH, Restart.CLEAN]))
    def restart(self, restart: Restart) -> None:
        self.commit(True)
        if restart is Restart.CLEAN:
            self.bench.shut_down()
        else:
            # What was checkpointed may be older than what was flushed.
            self.bench.recovery_point = min(self.bench.recovery_point, self.bench.log.flushed_end)
        self.bench.log_start_offset = self.start
        self.bench.reopen(restart)
        assert self.bench.log.log_end_offset == self.end

    @rule()
    def checkpoint(self) -> None:
        self.commit(True)
        self.bench.recovery_point = self.bench.log.flushed_end
        self.bench.log.checkpoint(self.bench.turn)

    @rule()
    def flush(self) -> None:
        self.bench.log.flush(self.bench.turn)
        self.commit(True)
        assert self.bench.log.flushed_end == self.end

    @rule(seed=st.none() | st.integers(0, 1 << 32))
    def lose_power(self, seed: int | None) -> None:
        """All that was not synced, or what `seed` draws of it: pages, names, halves of sectors."""
        self.commit(True)
        flushed = self.bench.log.flushed_end
        self.bench.recovery_point = min(self.bench.recovery_point, flushed)
        self.bench.log_start_offset = self.start
        self.bench.disk.lose_power(None if seed is None else Random(seed))
        log = self.bench.reopen(Restart.LOSSY)
        assert log.log_end_offset >= flushed, "nothing that was flushed is lost"
        kept = [entry for entry in self.entries if entry.end <= flushed]
        # Above that anything may be left, also what had been cut off: but batches, whole.
        self._adopt(kept)

    @rule(count=st.integers(1, 6), size=st.integers(0, 200), which=st.integers(0, 5))
    def fail_a_write(self, count: int, size: int, which: int) -> None:
        self.commit(True)
        bench = self.bench
        before = bench.log.producers.view()
        for n in range(count):
            bench.produce(batch(1, size=size, timestamp=WALL_MS + self.end + n), self.epoch)
        paths = [op.path for op in bench.turn.disk if isinstance(op, Append)]
        bench.disk.fail_next[paths[which % len(paths)]] = errno.ENOSPC
        bench.commit()
        log = bench.log
        assert log.failure
        assert log.log_end_offset == log.written_end
        assert not bench.failed
        assert log.producers.view() == before
        bench.log_start_offset = self.start
        bench.recovery_point = min(bench.recovery_point, log.flushed_end)
        bench.disk.fail_next.clear()
        assert bench.reopen(Restart.CRASH).log_end_offset == log.log_end_offset
        self._adopt(self.entries)

    def _adopt(self, kept: list[Entry]) -> None:
        """Take over what the log holds, which begins with `kept`."""
        log, content = self.bench.log, self.bench.content()
        self.start, self.end = log.log_start_offset, log.log_end_offset
        self.entries = [
            Entry(
                header.base_offset, header.last_offset + 1, header.leader_epoch,
                content[at : at + header.size],
                tuple(record.timestamp for record in read_records(content, at)),
            )
            for at, header in batches(content)
        ]  # fmt: skip
        live = [entry for entry in kept if entry.end > self.start]
        assert self.entries[: len(live)] == live
        self.epoch = max(self.epoch, log.epochs.latest)
        self.written = list(self.entries)

    # --- what holds -----------------------------------------------------------------------

    @invariant()
    def marks(self) -> None:
        log = self.bench.log
        assert log.log_end_offset == self.end
        assert log.log_start_offset == self.start
        assert log.log_start_offset <= log.written_end <= log.log_end_offset
        assert log.flushed_end <= log.written_end
        self.bench.recovery_point = min(self.bench.recovery_point, log.flushed_end)
        live = [entry for entry in self.entries if entry.end > self.start]
        assert log.last_epoch == (live[-1].epoch if live else log.last_epoch)
        entries = log.epochs.entries()
        assert entries == sorted(entries)
        assert len({start for _, start in entries}) == len(entries)
        for entry in live:
            assert log.epochs.epoch_of(max(entry.base, self.start)) == entry.epoch

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        log = self.bench.log
        self.commit(True)
        offset = data.draw(st.integers(self.start, self.end))
        upto = data.draw(st.integers(self.start, self.end))
        limit = data.draw(st.integers(0, 1500))
        content, following = log.read_bytes(offset, limit, upto)
        expected = [e for e in self.entries if e.end > offset and e.end <= upto]
        if not expected or offset >= upto:
            assert content == b""
            return
        found = [bytes(content[at : at + header.size]) for at, header in batches(content)]
        assert found == [entry.data for entry in expected[: len(found)]]
        assert len(content) <= limit or len(found) == 1
        assert following == expected[len(found) - 1].end
        more = expected[len(found) : len(found) + 1]
        assert not more or len(content) + len(more[0].data) > limit

    @rule(data=st.data())
    def find_timestamp(self, data: st.DataObject) -> None:
        self.commit(True)
        live = [
            (entry.base + n, timestamp, entry.epoch)
            for entry in self.entries
            for n, timestamp in enumerate(entry.timestamps)
            if entry.base + n >= self.start
        ]
        wanted = data.draw(st.integers(WALL_MS - 60, WALL_MS + 3 * self.end + 110))
        expected = next((record for record in live if record[1] >= wanted), None)
        assert self.bench.log.offset_for_timestamp(wanted) == expected

    @rule()
    def producers_are_a_function_of_the_prefix(self) -> None:
        self.commit(True)
        log = self.bench.log
        before = log.producers.view()
        cutting.rebuild_producers(log)
        assert log.producers.view() == before

    @invariant()
    def what_is_on_disk_is_the_list(self) -> None:
        if self.written != self.entries or self.bench.log.written_end != self.end:
            # A batch that is cut off and appended again may be the same, and still be staged.
            return
        content = self.bench.content()
        assert content == b"".join(e.data for e in self.entries if e.end > self.start)


LogMachine.TestCase.settings = settings(max_examples=EXAMPLES * 3 // 2, stateful_step_count=30)
TestLogAgainstAList = LogMachine.TestCase


def test_a_read_record_has_the_offset_that_the_leader_gave_it() -> None:
    bench = Bench()
    bench.produce(batch(3))
    bench.produce(batch(2))
    bench.commit()
    data = bench.content()
    assert [HEADER.unpack_from(data)[0]] == [0]
    offsets = [r.offset for at, _ in batches(data) for r in read_records(data, at)]
    assert offsets == [0, 1, 2, 3, 4]
