"""A log on a simulated disk, with the turn carried out as `run_turn` does."""

from __future__ import annotations

import errno as errnos

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import Appended, PartitionLog, Restart
from kcluster.core.turn import Append, DiskOperation, Sync, Synced, Turn
from kcluster.model import TopicPartition
from kcluster.sim.disk import SimDisk
from kcluster.wire.records import Record, build_batch

TP = TopicPartition("orders", 0)
DIRECTORY = "orders-0"
WALL_MS = 1_700_000_000_000


def batch(
    count: int = 1,
    *,
    size: int = 10,
    timestamp: int = WALL_MS,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """`count` records of `size` bytes, a millisecond apart."""
    return bytearray(
        build_batch(
            [Record(bytes(size), timestamp=timestamp + n) for n in range(count)],
            base_offset=base_offset,
            leader_epoch=leader_epoch,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
        )
    )


class Bench:
    def __init__(self, config: LogConfig | None = None, disk: SimDisk | None = None) -> None:
        self.config = config or LogConfig()
        self.disk = disk or SimDisk()
        self.turn = Turn()
        self.turn.wall_ms = WALL_MS
        self.log = PartitionLog(TP, DIRECTORY, self.disk, self.config)
        self.failed: list[tuple[DiskOperation, int]] = []
        self.syncs: list[Sync] = []
        """Carried out, and their events not given back yet."""
        self.recovery_point = 0
        self.log_start_offset = -1
        self.log.open(self.turn, Restart.CLEAN)
        self.commit()

    def commit(self, *, synced: bool = True) -> None:
        """End the turn: all its operations, and what their ends ask for."""
        for _ in range(8):
            operations, self.turn.disk = self.turn.disk, []
            for operation in operations:
                errno = self.disk.perform(operation)
                if type(operation) is Append:
                    if errno:
                        operation.owner.write_failed(self.turn, operation, errno)
                    else:
                        operation.owner.written(self.turn, operation)
                elif type(operation) is Sync:
                    self.syncs.append(operation)
                elif errno:
                    self.failed.append((operation, errno))
            if not self.turn.disk:
                break
        self.turn.clear()
        if synced:
            self.end_syncs()

    def end_syncs(self, errno: int = 0) -> None:
        syncs, self.syncs = self.syncs, []
        for sync in syncs:
            self.log.synced(Synced(sync.path, sync.token, errno))

    def produce(self, data: bytearray | None = None, epoch: int = 0) -> Appended:
        return self.log.append_as_leader(self.turn, memoryview(data or batch()), epoch)

    def replicate(self, data: bytes | bytearray) -> None:
        self.log.append_as_follower(self.turn, memoryview(data))

    def reopen(self, restart: Restart = Restart.CRASH, *, repair: bool = False) -> PartitionLog:
        """A new incarnation on the same files."""
        self.turn.clear()
        self.syncs.clear()
        self.log = PartitionLog(TP, DIRECTORY, self.disk, self.config)
        self.log.open(
            self.turn,
            restart,
            recovery_point=self.recovery_point,
            log_start_offset=self.log_start_offset,
            repair=repair,
        )
        self.commit()
        return self.log

    def shut_down(self) -> None:
        self.log.close(self.turn)
        self.commit()
        self.recovery_point = self.log.flushed_end

    def content(self, log: PartitionLog | None = None) -> bytes:
        """All bytes of the log from its start, through its own reads."""
        log = log or self.log
        data, offset = b"", log.log_start_offset
        while offset < log.written_end:
            more, offset = log.read_bytes(offset, 1 << 20, log.written_end)
            data += more
        return data

    def refuse_next_write(self, base_offset: int = 0, errno: int = errnos.ENOSPC) -> None:
        self.disk.fail_next[f"{DIRECTORY}/{base_offset:020d}.log"] = errno
