"""Lives of a follower's log on a disk that loses power: whatever is left is of one history.

Leaders come and go, each with a log that parts from another's somewhere; the follower is cut where
they part and goes on with the new one's, as soon as the cut is on the disk. Syncs end when they
like.
"""

from __future__ import annotations

from random import Random

import pytest

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import Restart
from kcluster.core.turn import Append, Sync, Synced
from kcluster.sim.disk import Syncing
from kcluster.wire.records import batches

from .bench import Bench, batch

LIVES = 1500
GROUPS = 3
BACK_MAX = 8
"""Records at most that a new leader lacks of the log that it comes from."""

Epochs = list[int]
"""Of the records of a log, by offset: each is a batch, and tells its whole history with them."""


class Life(Bench):
    def __init__(self, random: Random) -> None:
        self.random = random
        self.on_their_way: list[tuple[Sync, Syncing | None]] = []
        """None for one that waits for another of its file."""
        super().__init__(LogConfig(segment_bytes=random.choice([300, 400, 700, 1500])))
        self.epoch = 0
        self.leader: Epochs = []
        self.leaders: list[Epochs] = [self.leader]
        self.mine: Epochs = []

    def commit(self, *, synced: bool = False) -> None:
        operations, self.turn.disk = self.turn.disk, []
        for operation in operations:
            if type(operation) is Sync:
                self.on_their_way.append((operation, self._begun(operation.path)))
                continue
            assert not self.disk.perform(operation)
            if type(operation) is Append:
                operation.owner.written(self.turn, operation)
        assert not self.turn.disk
        self.turn.clear()

    def _begun(self, path: str) -> Syncing | None:
        if any(sync.path == path for sync, _ in self.on_their_way):
            return None
        syncing = self.disk.begin_sync(path)
        assert isinstance(syncing, Syncing)
        return syncing

    def end_some_syncs(self) -> None:
        chance, waiting = self.random.random(), self.on_their_way
        self.on_their_way = []
        for sync, syncing in waiting:
            if syncing is None and self.disk.size(sync.path) >= 0:
                syncing = self._begun(sync.path)
            if syncing is None or self.random.random() < chance:
                if syncing is not None:
                    self.disk.end_sync(syncing)
                    self.log.synced(Synced(sync.path, sync.token))
            else:
                self.on_their_way.append((sync, syncing))
        self.commit()

    def elect(self) -> None:
        random = self.random
        self.epoch += random.randint(1, 2)
        origin = random.choice([*self.leaders[-4:], self.mine, self.mine])
        self.leader = origin[: random.randint(max(0, len(origin) - BACK_MAX), len(origin))]
        self.leader += [self.epoch] * random.choice([0, 1, 3, 6])
        self.leaders.append(self.leader)
        common = 0
        for ours, theirs in zip(self.mine, self.leader, strict=False):
            if ours != theirs:
                break
            common += 1
        if common < len(self.mine):
            self.log.truncate_to(self.turn, common)
            self.mine = self.mine[:common]
            self.commit()

    def replicate_some(self) -> None:
        if len(self.mine) >= len(self.leader) and self.random.random() < 0.7:
            self.leader += [self.epoch] * self.random.randint(1, 4)
        for _ in range(self.random.randint(1, 5)):
            offset = len(self.mine)
            if self.log.cut_sync or offset == len(self.leader):
                break
            self.replicate(record(offset, self.leader[offset]))
            self.mine = [*self.mine, self.leader[offset]]
            if self.random.random() < 0.5:
                self.commit()
        self.commit()

    def checkpoint_all(self) -> None:
        self.recovery_point = self.log.flushed_end
        self.log.checkpoint(self.turn)
        self.commit()

    def restart(self, restart: Restart) -> None:
        flushed = self.mine[: self.log.flushed_end]
        self.recovery_point = min(self.recovery_point, len(flushed))
        self.on_their_way.clear()
        if restart is Restart.LOSSY:
            self.disk.lose_power(self.random)
        log = self.reopen(restart)
        content, start = self.content(), log.log_start_offset
        found = [header.leader_epoch for _, header in batches(content)]
        assert content == b"".join(record(start + n, epoch) for n, epoch in enumerate(found))
        if restart is Restart.CRASH:
            assert found == self.mine
            return
        assert any(found == leader[start : start + len(found)] for leader in self.leaders), found
        assert found[: len(flushed)] == flushed
        if start:
            # The first segment went, never synced. Who counted on this one hears of it.
            self.log.truncate_fully(self.turn, 0)
            found = []
            self.commit()
        self.mine = found

    def live(self) -> None:
        for _ in range(self.random.randint(10, 60)):
            chance = self.random.random()
            if chance < 0.3:
                self.elect()
            elif chance < 0.65:
                self.replicate_some()
            elif chance < 0.72:
                self.log.flush(self.turn)
                self.commit()
            elif chance < 0.9:
                self.end_some_syncs()
            elif chance < 0.95:
                self.checkpoint_all()
            else:
                self.restart(self.random.choice([Restart.CRASH, Restart.LOSSY, Restart.LOSSY]))
                self.elect()


def record(offset: int, epoch: int) -> bytes:
    size = Random(offset * 1_000_003 + epoch).choice([10, 50, 100, 250, 300])
    return bytes(batch(size=size, base_offset=offset, leader_epoch=epoch))


@pytest.mark.parametrize("group", range(GROUPS))
def test_what_a_power_loss_leaves_is_of_one_history(group: int) -> None:
    for seed in range(group * LIVES, (group + 1) * LIVES):
        life = Life(Random(seed))
        try:
            life.live()
        except BaseException as error:
            error.add_note(f"life {seed}")
            raise
