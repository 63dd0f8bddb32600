"""What a core may rely on, of the real disk and of the simulator's alike."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from kcluster.core.turn import Delete, Rename, Replace, Sync, Truncate

Append = Callable[..., int]


def test_a_missing_file_reads_empty_and_has_no_size(disk: Any) -> None:
    assert disk.read("t-0/0.log", 0, 10) == b""
    assert disk.size("t-0/0.log") == -1
    assert disk.list("t-0") == []


def test_the_volume_has_an_absolute_path_and_sizes_that_fit_each_other(disk: Any) -> None:
    volume = disk.volume()
    assert volume.path.startswith("/")
    assert -1 <= volume.usable_bytes <= volume.total_bytes


def test_an_append_creates_the_file_and_its_directory(disk: Any, append: Append) -> None:
    assert append("t-0/0.log", 0, b"abc") == 0
    assert disk.read("t-0/0.log", 0, 10) == b"abc"
    assert disk.size("t-0/0.log") == 3
    assert disk.list("t-0") == ["0.log"]
    assert disk.list("") == ["t-0"]


def test_buffers_of_one_append_follow_each_other(disk: Any, append: Append) -> None:
    append("f", 0, b"ab", b"", b"cde")
    assert append("f", 5, *[b"%d" % (n % 10) for n in range(3000)]) == 0
    assert disk.size("f") == 3005
    assert disk.read("f", 0, 8) == b"abcde012"
    assert disk.read("f", 3000, 100) == b"56789"


def test_a_write_within_a_file_overwrites(disk: Any, append: Append) -> None:
    append("f", 0, b"abcdef")
    append("f", 2, b"XY")
    assert disk.read("f", 0, 10) == b"abXYef"


def test_a_read_ends_at_the_end_of_the_file(disk: Any, append: Append) -> None:
    append("f", 0, b"abcdef")
    assert disk.read("f", 4, 10) == b"ef"
    assert disk.read("f", 6, 10) == b""
    assert disk.read("f", 100, 10) == b""


def test_a_replace_puts_the_whole_content_in_place(disk: Any, append: Append) -> None:
    append("d/f", 0, b"a longer content")
    assert disk.perform(Replace("d/f", b"new")) == 0
    assert disk.read("d/f", 0, 100) == b"new"
    assert disk.perform(Replace("d/g", memoryview(b"durable"), durable=True)) == 0
    assert disk.read("d/g", 0, 100) == b"durable"
    assert disk.list("d") == ["f", "g"]


def test_a_replaced_file_can_be_appended_to(disk: Any, append: Append) -> None:
    disk.perform(Replace("f", b"abc"))
    append("f", 3, b"def")
    assert disk.read("f", 0, 100) == b"abcdef"


def test_a_truncate_cuts_and_never_lengthens(disk: Any, append: Append) -> None:
    append("f", 0, b"abcdef")
    assert disk.perform(Truncate("f", 4)) == 0
    assert disk.read("f", 0, 100) == b"abcd"
    assert disk.perform(Truncate("f", 40)) == 0
    assert disk.size("f") == 4
    assert disk.perform(Truncate("missing", 0)) == errno.ENOENT


def test_a_renamed_file_keeps_its_content(disk: Any, append: Append) -> None:
    append("d/a", 0, b"abc")
    append("d/b", 0, b"old")
    assert disk.perform(Rename("d/a", "d/b")) == 0
    assert disk.list("d") == ["b"]
    assert disk.read("d/b", 0, 10) == b"abc"
    assert disk.size("d/a") == -1
    assert disk.perform(Rename("d/a", "d/c")) == errno.ENOENT


def test_a_renamed_directory_takes_its_files_along(disk: Any, append: Append) -> None:
    append("t-0/0.log", 0, b"abc")
    append("t-0/0.index", 0, b"i")
    append("t-01/0.log", 0, b"another")
    assert disk.perform(Rename("t-0", "t-0.1f-delete")) == 0
    append("t-0.1f-delete/0.log", 3, b"def")
    assert disk.read("t-0.1f-delete/0.log", 0, 10) == b"abcdef"
    assert disk.list("t-0") == []
    assert disk.list("") == ["t-0.1f-delete", "t-01"]
    append("t-0/0.log", 0, b"new")
    assert disk.read("t-0/0.log", 0, 10) == b"new"
    assert disk.read("t-01/0.log", 0, 10) == b"another"


def test_a_delete_takes_a_file_or_a_tree_and_minds_nothing_missing(
    disk: Any, append: Append
) -> None:
    append("t-0/0.log", 0, b"abc")
    append("t-0/1.log", 0, b"abc")
    append("t-0x/0.log", 0, b"abc")
    assert disk.perform(Delete("t-0/0.log")) == 0
    assert disk.list("t-0") == ["1.log"]
    assert disk.read("t-0/0.log", 0, 3) == b""
    assert disk.perform(Delete("t-0")) == 0
    assert disk.list("") == ["t-0x"]
    assert disk.perform(Delete("t-0")) == 0


def test_a_deleted_file_starts_afresh(disk: Any, append: Append) -> None:
    append("f", 0, b"abcdef")
    disk.perform(Delete("f"))
    append("f", 0, b"x")
    assert disk.read("f", 0, 10) == b"x"


def test_a_sync_of_a_missing_file_fails(disk: Any, append: Append) -> None:
    append("f", 0, b"abc")
    assert disk.perform(Sync("f", 1)) == 0
    assert disk.perform(Sync("missing", 2)) == errno.ENOENT
