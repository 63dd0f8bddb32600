from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kcluster.chaos.replicas import Unreadable, from_broker, from_files
from kcluster.errors import CorruptLogError, ErrorCode
from kcluster.wire.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from kcluster.wire.records import read_records
from tests.chaos.logs import TP, in_order, write

COUNT = 43


def test_files_give_every_batch_in_order_across_segments(tmp_path: Path) -> None:
    found = list(from_files(write(tmp_path / "load-0", in_order(COUNT), epoch=3), None))
    assert [(batch.base_offset, batch.last_offset) for batch in found][:2] == [(0, 4), (5, 9)]
    assert found[-1].last_offset == COUNT - 1
    values = [record.value for batch in found for record in read_records(batch.read())]
    assert values == in_order(COUNT)
    assert {batch.leader_epoch for batch in found} == {3}


@pytest.mark.parametrize(("end", "last"), [(1, 4), (5, 4), (6, 9), (20, 19), (21, 24)])
def test_files_are_read_up_to_the_batch_that_reaches_the_end(
    tmp_path: Path, end: int, last: int
) -> None:
    *_, batch = from_files(write(tmp_path / "load-0", in_order(COUNT)), end)
    assert batch.last_offset == last


def test_half_a_batch_behind_the_end_is_no_damage(tmp_path: Path) -> None:
    directory = write(tmp_path / "load-0", in_order(20))
    [path] = directory.glob("*.log")
    path.write_bytes(path.read_bytes()[:-30])
    *_, batch = from_files(directory, 15)
    assert batch.last_offset == 14
    with pytest.raises(CorruptLogError, match="no whole batch"):
        list(from_files(directory, 20))


def test_a_segment_that_is_missing_between_two_is_damage(tmp_path: Path) -> None:
    directory = write(tmp_path / "load-0", in_order(COUNT))
    [_, second, _] = sorted(directory.glob("*.log"))
    second.unlink()
    with pytest.raises(CorruptLogError, match="ends at 20"):
        list(from_files(directory, None))


def test_other_files_of_the_directory_are_no_segments(tmp_path: Path) -> None:
    directory = write(tmp_path / "load-0", in_order(5))
    (directory / "other.log").write_bytes(b"x")
    (directory / "00000000000000000000.index").write_bytes(b"x")
    assert len(list(from_files(directory, None))) == 1


class Broker:
    """Answers Fetch with these, one after the other; the last one for ever."""

    def __init__(self, *answers: PartitionData | None) -> None:
        self._answers = list(answers)
        self.offsets: list[int] = []

    def ask(self, broker: int, request: Any, *_: object) -> FetchResponse | None:
        self.offsets.append(request.topics[0].partitions[0].fetch_offset)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            return None
        return FetchResponse(
            responses=[FetchableTopicResponse(topic=TP.topic, partitions=[answer])]
        )


def served(tmp_path: Path, begin: int, end: int) -> PartitionData:
    """The batches of five from `begin` on."""
    log = write(tmp_path / f"{begin}" / "load-0", in_order(COUNT)[begin:end], base_offset=begin)
    [path] = log.glob("*.log")
    return PartitionData(records=memoryview(path.read_bytes()))


def fetched(broker: Broker, end: int = 15, behind_s: float = 15) -> list[int]:
    """The last offset of each batch."""
    batches = from_broker(broker, 2, TP, 0, end, behind_s)  # type: ignore[arg-type]
    return [batch.last_offset for batch in batches]


def test_a_broker_is_asked_until_the_end_is_reached(tmp_path: Path) -> None:
    nothing = PartitionData(records=memoryview(b""))
    broker = Broker(served(tmp_path, 0, 10), nothing, None, served(tmp_path, 10, 20))
    assert fetched(broker) == [4, 9, 14]
    assert broker.offsets == [0, 10, 10, 10]


def test_a_follower_that_does_not_serve_consumers_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="does not serve it to consumers"):
        fetched(Broker(PartitionData(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER, records=None)))


def test_a_broker_that_gives_nothing_new_is_unreadable_in_the_end(tmp_path: Path) -> None:
    broker = Broker(served(tmp_path, 0, 10), None)
    with pytest.raises(Unreadable, match="up to 10 only"):
        fetched(broker, behind_s=0)


def test_a_batch_whose_crc_does_not_hold_is_damage(tmp_path: Path) -> None:
    data = served(tmp_path, 0, 10)
    damaged = bytearray(data.records)
    damaged[-1] ^= 1
    with pytest.raises(CorruptLogError, match="CRC of the batch at 5"):
        fetched(Broker(PartitionData(records=memoryview(damaged))))
