"""Producer state against a replay of the log's prefix into a plain dict.

The dict keeps of each producer id its epoch and all batches of that epoch; what it says of the
next batch is written as KIP-98 has it: the sequence behind the last one, modulo 2^31, or the copy
of one of the last five.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import Restart
from kcluster.core.log.producers import BATCHES_KEPT
from kcluster.errors import ApiError, ErrorCode
from tests.core.log.bench import Bench, batch
from tests.core.log.test_index_model import EXAMPLES

WRAP = 1 << 31
LAST = WRAP - 1


class Written(NamedTuple):
    producer_id: int
    epoch: int
    sequence: int
    count: int
    base_offset: int

    @property
    def end_offset(self) -> int:
        return self.base_offset + self.count


def replayed(written: list[Written]) -> dict[int, tuple[int, list[Written]]]:
    """{producer id: (epoch, its batches)} after all these."""
    state: dict[int, tuple[int, list[Written]]] = {}
    for each in written:
        epoch, before = state.pop(each.producer_id, (each.epoch, []))
        state[each.producer_id] = each.epoch, [*(before if epoch == each.epoch else []), each]
    return state


class ProducerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[Written] = []
        self.end = 0
        self.leader_epoch = 0

    @initialize(segment_bytes=st.sampled_from([200, 400, 5000]))
    def make(self, segment_bytes: int) -> None:
        self.bench = Bench(LogConfig(segment_bytes=segment_bytes, retention_ms=-1))

    def _produce(self, producer_id: int, epoch: int, sequence: int, count: int) -> None:
        """And hold the outcome against what the dict says."""
        state = replayed(self.written)
        expected: Written | ErrorCode | None = None
        if producer_id in state:
            known_epoch, batches = state[producer_id]
            last = batches[-1]
            if epoch < known_epoch:
                expected = ErrorCode.INVALID_PRODUCER_EPOCH
            elif epoch > known_epoch:
                expected = None if sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            elif sequence != (last.sequence + last.count) % WRAP:
                copies = [
                    each
                    for each in batches[-BATCHES_KEPT:]
                    if (each.sequence, each.count) == (sequence, count)
                ]
                expected = copies[0] if copies else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        data = batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
        try:
            appended = self.bench.produce(data, self.leader_epoch)
        except ApiError as error:
            assert error.code == expected
            return
        if isinstance(expected, Written):
            assert appended.is_duplicate
            assert appended.base_offset == expected.base_offset
            assert appended.last_offset == expected.end_offset - 1
            return
        assert expected is None
        assert not appended.is_duplicate
        assert appended.base_offset == self.end
        self.written.append(Written(producer_id, epoch, sequence, count, self.end))
        self.end += count

    @rule(
        producer_id=st.integers(1, 3),
        epoch=st.integers(0, 2),
        sequence=st.sampled_from([0, 1, 5, LAST - 1, LAST]),
        count=st.integers(1, 3),
    )
    def produce_anything(self, producer_id: int, epoch: int, sequence: int, count: int) -> None:
        self._produce(producer_id, epoch, sequence, count)

    @rule(producer_id=st.integers(1, 3), count=st.integers(1, 4))
    def produce_the_next(self, producer_id: int, count: int) -> None:
        state = replayed(self.written)
        epoch, batches = state.get(producer_id, (0, []))
        sequence = (batches[-1].sequence + batches[-1].count) % WRAP if batches else LAST - 2
        self._produce(producer_id, epoch, sequence, count)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def produce_a_copy(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.written[-12:]))
        count = data.draw(st.sampled_from([old.count, old.count, old.count + 1]))
        self._produce(old.producer_id, old.epoch, old.sequence, count)

    @rule(count=st.integers(1, 3))
    def produce_without_an_id(self, count: int) -> None:
        assert self.bench.produce(batch(count), self.leader_epoch).base_offset == self.end
        self.end += count

    @rule()
    def commit(self) -> None:
        self.bench.commit()

    @rule()
    def roll(self) -> None:
        """Takes a snapshot."""
        self.bench.log.roll(self.bench.turn)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        cut = data.draw(st.sampled_from(self.written)).base_offset
        self.bench.log.truncate_to(self.bench.turn, cut)
        # Nothing is appended behind a cut before that is on the disk.
        self.bench.commit()
        self.written = [each for each in self.written if each.base_offset < cut]
        self.end = cut
        self.leader_epoch += 1

    @rule(
        restart=st.sampled_from(list(Restart)),
        loses_snapshots=st.booleans(),
        damages=st.booleans(),
    )
    def come_back(self, restart: Restart, loses_snapshots: bool, damages: bool) -> None:
        """A snapshot that is lost or damaged costs time and no state."""
        bench = self.bench
        bench.commit()
        if restart is Restart.CLEAN:
            bench.shut_down()
        bench.recovery_point = min(bench.recovery_point, bench.log.flushed_end)
        for name in [name for name in bench.disk.files if name.endswith(".snapshot")]:
            if loses_snapshots:
                del bench.disk.files[name]
            elif damages:
                bench.disk.files[name].data[-1] ^= 1
        assert bench.reopen(restart).log_end_offset == self.end

    @invariant()
    def state_is_a_function_of_the_prefix(self) -> None:
        expected = {
            producer_id: (
                epoch,
                [
                    (
                        each.sequence,
                        (each.sequence + each.count - 1) % WRAP,
                        each.base_offset,
                        each.end_offset - 1,
                    )
                    for each in batches[-BATCHES_KEPT:]
                ],
            )
            for producer_id, (epoch, batches) in replayed(self.written).items()
        }
        found = {
            producer_id: (epoch, [each[:4] for each in batches])
            for producer_id, (epoch, batches) in self.bench.log.producers.view().items()
        }
        assert found == expected
        assert list(found) == list(expected), "the one silent for longest is the next to go"


ProducerMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
TestProducersAgainstADict = ProducerMachine.TestCase
