"""The leader epoch cache: at which offset each leader epoch starts in this log.

    leader-epoch-checkpoint   Kafka's text format:   0            version
                                                     3            entries
                                                     0 0          epoch, start offset
                                                     3 1200
                                                     2147483647 4611686020...   checksum

The last entry is ours: 2**62 and the CRC-32C of the lines before it. Kafka drops at load what
starts behind the log end. Without it a flipped bit would have replicas truncate at a wrong offset.

Truncation is decided by it and by nothing else (invariant 8): the epoch of a follower's last
batch, asked of the leader, tells where the two logs part. Epochs and start offsets both rise
strictly; epochs in which nothing was written are kept, because a leader must be able to say
that an epoch ended where it began (KAFKA-7415).

Sources: KIP-101, KIP-279; Kafka's LeaderEpochFileCache.
"""

from __future__ import annotations

from bisect import bisect_right

from fastcrc import crc32

from kcluster.config import INT_MAX, LONG_MAX
from kcluster.errors import CorruptLogError

FILE_NAME = "leader-epoch-checkpoint"
CRC_EPOCH = 2**31 - 1
CRC_BASE = 2**62
UNDEFINED = (-1, -1)


class LeaderEpochs:
    """Invariant: epochs and start offsets rise strictly."""

    __slots__ = ("epochs", "is_dirty", "starts")

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.starts: list[int] = []
        """First offset of each epoch."""
        self.is_dirty = False
        """Changed since it was last put on the disk durably."""

    @property
    def latest(self) -> int:
        """The largest epoch known, with or without records; -1 for none."""
        return self.epochs[-1] if self.epochs else -1

    def entries(self) -> list[tuple[int, int]]:
        return list(zip(self.epochs, self.starts, strict=True))

    def assign(self, epoch: int, start_offset: int) -> bool:
        """`epoch` starts at `start_offset`; whether that is news.

        What it contradicts goes: an entry with as large an epoch, or that starts at or behind
        this one, was of a leader whose records are no longer here.
        """
        assert epoch >= 0
        assert start_offset >= 0
        epochs, starts = self.epochs, self.starts
        if epochs and epochs[-1] == epoch and start_offset >= starts[-1]:
            return False
        while epochs and (epochs[-1] > epoch or starts[-1] >= start_offset):
            epochs.pop()
            starts.pop()
        if not epochs or epochs[-1] < epoch:
            epochs.append(epoch)
            starts.append(start_offset)
        self.is_dirty = True
        return True

    def epoch_of(self, offset: int) -> int:
        """The epoch of the record at `offset`; -1 below the first entry."""
        number = bisect_right(self.starts, offset) - 1
        return self.epochs[number] if number >= 0 else -1

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(largest epoch <= `epoch`, exclusive end of it here), or (-1, -1).

        The latest epoch ends at the log end. A larger one than that is not known here: (-1, -1)
        for a replica that asks about the future would make it cut all, so that it is answered
        with the latest, as for any gap (KIP-279).
        """
        number = bisect_right(self.epochs, epoch) - 1
        if number < 0:
            return UNDEFINED
        following = number + 1
        end = self.starts[following] if following < len(self.starts) else log_end_offset
        return self.epochs[number], end

    def truncate_from_end(self, end_offset: int, *, keeps_start: bool = False) -> bool:
        """Forget epochs that start at or behind `end_offset`; whether any went. `keeps_start`
        keeps one that starts exactly there: an epoch without records."""
        starts = self.starts
        before = len(starts)
        while starts and (
            starts[-1] > end_offset or (starts[-1] == end_offset and not keeps_start)
        ):
            starts.pop()
            self.epochs.pop()
        changed = len(starts) != before
        self.is_dirty |= changed
        return changed

    def truncate_from_start(self, start_offset: int) -> bool:
        """The log now starts at `start_offset`: its epoch is kept and starts there."""
        number = bisect_right(self.starts, start_offset) - 1
        if number < 0 or self.starts[number] == start_offset:
            if number <= 0:
                return False
            del self.starts[:number]
            del self.epochs[:number]
        else:
            del self.starts[:number]
            del self.epochs[:number]
            self.starts[0] = start_offset
        self.is_dirty = True
        return True

    def clear(self) -> bool:
        changed = bool(self.epochs)
        self.epochs.clear()
        self.starts.clear()
        self.is_dirty |= changed
        return changed

    def encode(self) -> bytes:
        lines = [f"{epoch} {start}" for epoch, start in self.entries()]
        lines.append(_crc_line(lines))
        return "\n".join(["0", str(len(lines)), *lines, ""]).encode()

    @classmethod
    def decode(cls, data: bytes) -> LeaderEpochs:
        """Raises CorruptLogError on anything but rising entries in format 0."""
        cache = cls()
        try:
            *lines, rest = data.decode("ascii").split("\n")
            if rest or lines[0] != "0" or int(lines[1]) != len(lines) - 2:
                raise ValueError("header")
            if lines[-1] != _crc_line(lines[2:-1]):
                raise ValueError("its checksum does not fit")
            for line in lines[2:-1]:
                epoch, start = map(int, line.split(" "))
                if not (cache.latest < epoch <= INT_MAX and 0 <= start <= LONG_MAX):
                    raise ValueError(line)
                if cache.starts and start <= cache.starts[-1]:
                    raise ValueError(line)
                cache.epochs.append(epoch)
                cache.starts.append(start)
        except (ValueError, IndexError) as error:
            raise CorruptLogError(f"{FILE_NAME}: {error}") from None
        return cache


def _crc_line(lines: list[str]) -> str:
    return f"{CRC_EPOCH} {CRC_BASE + crc32.iscsi(chr(10).join(lines).encode())}"
