"""The simulated disk: what a kill keeps, and what a power cut may take."""

import errno
from random import Random
from typing import get_args

import pytest

from kcluster.core.turn import Append, Delete, Rename, Replace, Sync, Truncate
from kcluster.sim.disk import Operation, SimDisk


class Owner:
    def written(self, turn, append): ...

    def write_failed(self, turn, append, errno): ...


def append(path, position, data):
    return Append(path, position, Owner(), [data], len(data))


def test_what_was_synced_survives_a_power_cut_and_the_rest_does_not():
    disk = SimDisk()
    disk.perform(append("t/a.log", 0, b"one"))
    disk.perform(Sync("t/a.log", 1))
    disk.perform(append("t/a.log", 3, b"two"))
    disk.perform(append("t/b.log", 0, b"never synced"))
    disk.lose_power()
    assert disk.read("t/a.log", 0, 100) == b"one"
    assert disk.size("t/b.log") == -1


def test_a_drawn_power_cut_keeps_the_synced_prefix_whatever_it_does_to_the_rest():
    synced = bytes(range(256)) * 40
    seen = set()
    for seed in range(60):
        disk = SimDisk()
        disk.perform(append("a", 0, synced))
        disk.perform(Sync("a", 1))
        disk.perform(append("a", len(synced), b"n" * 20_000))
        disk.lose_power(Random(seed))
        content = disk.read("a", 0, 1 << 20)
        assert content.startswith(synced)
        assert set(content[len(synced) :]) <= {0, ord("n")}
        seen.add(content)
    assert len(seen) > 20


def test_a_sync_covers_only_what_was_there_when_it_began():
    disk = SimDisk()
    disk.perform(append("a", 0, b"old"))
    syncing = disk.begin_sync("a")
    disk.perform(append("a", 3, b"new"))
    disk.end_sync(syncing)
    disk.lose_power()
    assert disk.read("a", 0, 100) == b"old"


def test_a_rename_is_durable_once_something_in_its_target_is_synced():
    disk = SimDisk()
    disk.perform(append("t-0/a.log", 0, b"x"))
    disk.perform(Sync("t-0/a.log", 1))
    disk.perform(Rename("t-0", "t-0.123-delete"))
    disk.lose_power()
    assert disk.list("") == ["t-0"]
    disk.perform(Rename("t-0", "t-1"))
    disk.perform(Sync("t-1/a.log", 2))
    disk.lose_power()
    assert disk.list("") == ["t-1"]


def test_a_delete_may_be_forgotten_by_a_power_cut():
    disk = SimDisk()
    disk.perform(append("a", 0, b"x"))
    disk.perform(Sync("a", 1))
    disk.perform(Delete("a"))
    assert disk.size("a") == -1
    disk.lose_power()
    assert disk.read("a", 0, 9) == b"x"


def test_a_delete_is_durable_once_something_beside_it_is_synced():
    disk = SimDisk()
    for name in ("d/a", "d/b", "e/a"):
        disk.perform(append(name, 0, b"x"))
        disk.perform(Sync(name, 1))
    disk.perform(Delete("d/a"))
    disk.perform(Delete("e/a"))
    disk.perform(Sync("d/b", 2))
    disk.lose_power()
    assert (disk.list("d"), disk.list("e")) == (["b"], ["a"])


def test_a_durable_replace_is_whole_after_a_power_cut():
    for seed in range(20):
        disk = SimDisk()
        disk.perform(Replace("checkpoint", b"one", durable=True))
        disk.perform(Replace("checkpoint", b"two", durable=True))
        disk.lose_power(Random(seed))
        assert disk.read("checkpoint", 0, 9) == b"two"


def test_a_truncate_of_synced_bytes_may_come_back_but_never_half():
    for seed in range(40):
        disk = SimDisk()
        disk.perform(append("a", 0, b"a" * 5000))
        disk.perform(Sync("a", 1))
        disk.perform(Truncate("a", 100))
        disk.lose_power(Random(seed))
        content = disk.read("a", 0, 9999)
        assert 100 <= len(content) <= 5000
        assert set(content) == {ord("a")} or set(content) == {0, ord("a")}
        assert content[:100] == b"a" * 100


def test_a_full_disk_leaves_a_torn_record_and_an_errno():
    disk = SimDisk(capacity_bytes=5)
    assert disk.perform(append("a", 0, b"123")) == 0
    assert disk.perform(append("a", 3, b"456")) == errno.ENOSPC
    assert disk.read("a", 0, 9) == b"12345"
    disk = SimDisk()
    disk.short_next["a"] = (1, errno.EFBIG)
    assert disk.perform(append("a", 0, b"123")) == errno.EFBIG
    assert disk.read("a", 0, 9) == b"1"


def test_a_failed_sync_makes_nothing_durable():
    disk = SimDisk()
    disk.perform(append("a", 0, b"123"))
    disk.fail_next["a"] = errno.EIO
    assert disk.perform(Sync("a", 1)) == errno.EIO
    disk.lose_power()
    assert disk.size("a") == -1


def test_a_rename_that_made_room_for_a_synced_file_is_not_replayed_over_it():
    for seed in range(20):
        disk = SimDisk()
        disk.perform(Replace("t-0/id", b"old", durable=True))
        disk.perform(Rename("t-0", "t-0.1-delete"))
        disk.perform(Replace("t-0/id", b"new", durable=True))
        disk.lose_power(Random(seed))
        assert disk.read("t-0/id", 0, 9) == b"new"


@pytest.mark.parametrize("operation", get_args(Operation))
def test_the_next_operation_of_a_kind_fails_once(operation):
    disk = SimDisk()
    disk.perform(append("t-0/0.log", 0, b"one"))
    disk.perform(append("t-0/0.log", 3, b"two"))
    disk.fail_kind[operation] = errno.EIO
    asked = {
        "sync": Sync("t-0/0.log", 1),
        "roll": append("t-0/6.log", 0, b"three"),
        "replace": Replace("checkpoint", b"0"),
        "truncate": Truncate("t-0/0.log", 3),
        "rename": Rename("t-0/0.log", "t-0/0.log.deleted"),
        "delete": Delete("t-0/0.log"),
    }[operation]
    assert disk.perform(append("t-0/0.log", 6, b"!")) == 0
    assert disk.perform(asked) == errno.EIO
    assert disk.read("t-0/0.log", 0, 9) == b"onetwo!"
    assert disk.perform(asked) == 0
    assert disk.failures == 1
