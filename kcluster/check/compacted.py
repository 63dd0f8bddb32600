"""The truth about a compacted partition, record by record: its replicas differ in their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kcluster.check.seen import BatchSeen, InvariantViolated, RecordSeen, require


@dataclass(slots=True)
class CompactedTruth:
    records: dict[int, RecordSeen] = field(default_factory=dict)
    """By offset: all that were ever committed."""
    epochs: dict[int, int] = field(default_factory=dict)
    """Leader epoch by offset."""
    last: dict[bytes | None, int] = field(default_factory=dict)
    """Last committed offset of each key."""
    batches: dict[int, BatchSeen] = field(default_factory=dict)
    """As they were committed, by base offset: what is still like that needs no second look."""

    def commit(self, batch: BatchSeen) -> None:
        """A leader's batch, as it was appended."""
        count = batch.last_offset - batch.base_offset + 1
        require(
            len(batch.records) == count, 15, "what is committed is not compacted yet",
            lambda: f"{batch} has {len(batch.records)} records",
        )  # fmt: skip
        self.batches[batch.base_offset] = batch
        for record in batch.records:
            self.records[record.offset] = record
            self.epochs[record.offset] = batch.leader_epoch
            self.last[record.key] = record.offset

    def match(self, batch: BatchSeen, start: int, number: int, name: str, where: str) -> None:
        """A batch of a replica, or of a reply, against what was committed from `start` on."""
        require(batch.base_offset <= start, number, name, lambda: f"{where} has a hole at {start}")
        if self.batches.get(batch.base_offset) == batch:
            return
        found = {record.offset: record for record in batch.records}
        for offset in range(start, batch.last_offset + 1):
            committed = self.records.get(offset)
            if committed is None:
                # From before anybody looked.
                continue
            epoch, record = self.epochs[offset], found.get(offset)
            if epoch != batch.leader_epoch:
                raise InvariantViolated(
                    number, name, f"{where}: {offset} is of epoch {batch.leader_epoch}, not {epoch}"
                )
            if record is None:
                if not committed.is_tombstone and self.last[committed.key] <= offset:
                    raise InvariantViolated(
                        number, name,
                        f"{where}: {committed} is gone, and nothing later has its key",
                    )  # fmt: skip
            elif record != committed:
                raise InvariantViolated(
                    number, name, f"{where}: {record}, committed is {committed}"
                )

    def check_last(
        self, left: Iterable[RecordSeen], where: str, *, is_strict: bool, start: int = 0
    ) -> None:
        """A replica whose high watermark is the end of all that is committed, and all records
        that are `left` on it from `start` on: the last value per key. Unless `is_strict`, what is
        left of a deleted key does not count: a follower that was away for longer than
        `delete.retention.ms` may never have heard of the tombstone, as in Kafka."""
        latest: dict[bytes | None, RecordSeen] = {}
        for record in left:
            latest[record.key] = record
        name = "a compacted log is the last value per key"
        for key, offset in self.last.items():
            if offset < start:
                continue
            committed, found = self.records[offset], latest.get(key)
            if committed.is_tombstone:
                is_gone = found is None or found == committed
                require(is_gone or not is_strict, 3, name, f"{where}: {key!r} is back: {found}")
            else:
                require(found == committed, 3, name, f"{where}: {found}, committed is {committed}")
