"""Consumers and followers (KIP-392): who is sent where, what a follower gives, and when it sends
them back."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.config import RACK_AWARE_SELECTOR
from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.wire import bus
from kcluster.wire.messages.fetch import FetchRequest
from tests.core.broker.stage import Stage, fetch, fetched, produce, values_of

RACKS = {1: "a", 2: "b", 3: "b"}


def racked(**settings: str) -> Stage:
    """Broker 1 leads in rack a; 2 and 3 follow in rack b."""
    stage = Stage(3, **{"replica_selector_class": RACK_AWARE_SELECTOR, **settings})
    for id, rack in RACKS.items():
        epoch = stage[id].core.epoch
        where = ("127.0.0.1", 9090 + id, f"ipc://{id}")
        stage.dictate(
            r.BrokerRegistered(id, epoch, 1, *where, rack=rack), r.BrokerUnfenced(id, epoch)
        )
    stage.create([1, 2, 3])
    stage.deliver()
    return stage


def write(stage: Stage, *values: bytes) -> None:
    stage[1].asks(produce(*values), 9)
    stage.deliver()
    stage.wait(30)
    stage[1].answers()


def from_rack(offset: int, rack: str = "b", **more: Any) -> FetchRequest:
    request = fetch(offset, **more)
    request.rack_id = rack
    return request


def preferred(stage: Stage, request: FetchRequest, version: int = 12) -> int:
    stage[1].asks(request, version)
    part = fetched(stage[1].answer())
    assert part.error_code == ErrorCode.NONE
    assert part.preferred_read_replica < 0 or not part.records
    return int(part.preferred_read_replica)


def read(stage: Stage, broker: int, offset: int, version: int = 12, **more: Any) -> Any:
    stage[broker].asks(fetch(offset, max_wait_ms=0, **more), version)
    return fetched(stage[broker].answer())


# --- the leader -------------------------------------------------------------------------------


def test_a_consumer_is_sent_to_a_follower_in_its_rack_and_told_nothing_else() -> None:
    stage = racked()
    write(stage, b"a")
    assert preferred(stage, from_rack(0)) in (2, 3)
    assert preferred(stage, from_rack(1)) in (2, 3)


@pytest.mark.parametrize(("rack", "version"), [("a", 12), ("c", 12), ("", 12), ("b", 10)])
def test_others_are_read_to_by_the_leader(rack: str, version: int) -> None:
    stage = racked()
    write(stage, b"a")
    stage[1].asks(from_rack(0, rack), version)
    part = fetched(stage[1].answer())
    assert part.preferred_read_replica == -1
    assert len(values_of(part.records)) == 1


def test_nobody_is_sent_anywhere_unless_it_is_configured() -> None:
    stage = racked(replica_selector_class="")
    write(stage, b"a")
    assert preferred(stage, from_rack(0)) == -1


def test_only_who_is_in_sync_and_holds_the_offset_is_named() -> None:
    stage = racked()
    write(stage, b"a")
    stage.change(isr=[1, 3])
    assert preferred(stage, from_rack(0)) == 3
    stage[1].asks(produce(b"b"), 9)
    # Written here, and at nobody else yet.
    assert stage[1].log.log_end_offset == 2
    stage.wires.clear()
    stage[1].asks(from_rack(2, max_wait_ms=0), 12, connection=2)
    assert fetched(stage[1].answer()).preferred_read_replica == -1


def test_who_is_fenced_is_not_named() -> None:
    stage = racked()
    write(stage, b"a")
    for id in (2, 3):
        stage.dictate(r.BrokerFenced(id, stage[id].core.epoch))
    assert preferred(stage, from_rack(0)) == -1


def test_an_offset_that_is_nowhere_is_an_error_of_the_leader() -> None:
    stage = racked()
    stage[1].asks(from_rack(7), 12)
    assert fetched(stage[1].answer()).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


# --- a follower -------------------------------------------------------------------------------


def test_a_follower_gives_what_is_below_the_high_watermark_that_it_knows() -> None:
    stage = racked()
    write(stage, b"a", b"b")
    part = read(stage, 2, 0)
    assert part.high_watermark == part.last_stable_offset == 2
    assert [record.value for record in values_of(part.records)] == [b"a", b"b"]
    stage[1].asks(produce(b"c"), 9)
    # It holds the third one, and does not know that it is committed.
    stage.deliver(drop=lambda source, _, message: source == 2 and isinstance(message, bus.Ack))
    assert stage[2].log.log_end_offset == 3
    part = read(stage, 2, 2)
    assert (part.error_code, part.high_watermark, bytes(part.records)) == (0, 2, b"")


def test_a_fetch_waits_at_a_follower_until_its_high_watermark_moves() -> None:
    stage = racked()
    write(stage, b"a")
    stage[2].asks(fetch(1, max_wait_ms=500), 12)
    assert stage[2].answers() == []
    write(stage, b"b")
    part = fetched(stage[2].answer())
    assert [record.offset for record in values_of(part.records)] == [1]
    assert not stage[2].replica.follower.fetches


def test_older_clients_and_other_apis_are_for_the_leader() -> None:
    stage = racked()
    write(stage, b"a")
    assert read(stage, 2, 0, version=10).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize(
    ("epoch", "error"),
    [(0, ErrorCode.FENCED_LEADER_EPOCH), (1, ErrorCode.NONE), (2, ErrorCode.UNKNOWN_LEADER_EPOCH)],
)
def test_epochs_fence_the_readers_of_a_follower_as_well(epoch: int, error: ErrorCode) -> None:
    stage = racked()
    stage.change(leader=1, isr=[1, 2, 3])
    stage.deliver()
    assert read(stage, 2, 0, current_leader_epoch=epoch).error_code == error


def test_who_wants_more_than_a_follower_has_is_sent_back() -> None:
    stage = racked()
    write(stage, b"a")
    part = read(stage, 2, 5)
    assert part.error_code == ErrorCode.OFFSET_NOT_AVAILABLE
    assert part.high_watermark == -1


def test_who_has_waited_in_vain_is_sent_back_by_a_follower_that_knows_less() -> None:
    stage = racked()
    write(stage, b"a")
    stage[1].asks(produce(b"b"), 9)
    stage.deliver(drop=lambda source, _, message: source == 2 and isinstance(message, bus.Ack))
    # Somebody has read offset 1 elsewhere; here it is not known to be committed.
    stage[2].asks(fetch(2, max_wait_ms=100), 12)
    stage.wait(200, deliver=False)
    assert fetched(stage[2].answer()).error_code == ErrorCode.OFFSET_NOT_AVAILABLE


@pytest.mark.parametrize(
    ("isr", "error"), [([1, 2, 3], 0), ([1, 3], ErrorCode.OFFSET_NOT_AVAILABLE)]
)
def test_who_is_out_of_sync_sends_those_back_that_it_has_nothing_for(
    isr: list[int], error: int
) -> None:
    stage = racked()
    write(stage, b"a")
    stage.change(isr=isr)
    assert read(stage, 2, 0).error_code == 0
    stage[2].asks(fetch(1, max_wait_ms=100), 12)
    stage.wait(200)
    assert fetched(stage[2].answer()).error_code == error


def test_what_is_below_the_log_start_is_out_of_range() -> None:
    stage = racked()
    write(stage, b"a")
    write(stage, b"b")
    stage[2].log.advance_log_start(stage[2].turn, 1)
    assert read(stage, 2, 0).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_a_new_leader_has_those_who_wait_at_followers_look_again() -> None:
    stage = racked()
    write(stage, b"a")
    stage[2].asks(fetch(1, max_wait_ms=10_000, current_leader_epoch=0), 12)
    stage.change(leader=3, isr=[2, 3])
    assert fetched(stage[2].answer()).error_code == ErrorCode.FENCED_LEADER_EPOCH


def test_a_tail_that_may_differ_is_nobodys_divergence() -> None:
    stage = racked()
    write(stage, b"a")
    # A consumer that has read on elsewhere in a later epoch.
    part = read(stage, 2, 1, last_fetched_epoch=0)
    assert part.diverging_epoch.epoch == -1
    assert part.error_code == 0
