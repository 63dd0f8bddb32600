"""`kcluster dump-segment` as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kcluster.cli import main
from kcluster.wire.records import Record, build_batch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "orders-0" / "00000000000000000000.log"
    path.parent.mkdir()
    records = [Record(b"one\x1b[31m\n", b"k", (("trace", b"7"),), 1_800_000_000_000)]
    path.write_bytes(b"".join(build_batch(records, base_offset=n, leader_epoch=0)
                              for n in range(3)))  # fmt: skip
    return path


def test_batches_are_lines_and_records_lines_below_them(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["dump-segment", "--records", str(log)]) == 0
    head, batch, record, *rest = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["POSITION", "OFFSETS", "COUNT", "EPOCH"]
    assert batch.split()[:6] == ["0", "0-0", "1", "0", "-", "-"]
    assert "key=k value=one\\x1b[31m\\n" in record  # nothing that a terminal would obey
    assert 'headers=[{"name":"trace","value":"7"}]' in record
    assert len(rest) == 4


def test_damage_is_said_where_it_begins_and_is_exit_code_11(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(log.read_bytes())
    size = len(data) // 3
    data[size + 65] ^= 1
    log.write_bytes(data)
    assert main.run(["dump-segment", str(log)]) == 11
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("WRONG") for line in lines] == [False, False, True, False, False]
    assert lines[3].startswith(f"✗ byte {size}: ")
    assert main.run(["dump-segment", str(log), "-o", "json"]) == 11
    [file] = json.loads(capsys.readouterr().out)["files"]
    assert file["damage"][0]["position"] == size
    assert [batch["is_crc_ok"] for batch in file["entries"]] == [True, False, True]


def test_several_files_are_told_apart(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (log.parent / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
    (log.parent / "00000000000000000000.index").write_bytes(b"\0" * 7)
    names = [str(path) for path in sorted(log.parent.iterdir())]
    assert main.run(["dump-segment", *names]) == 11
    text = capsys.readouterr().out
    assert all(name in text for name in names)
    assert "7 bytes that are no entry" in text
