"""A consumer of assigned partitions without a socket: where it stands, and what to fetch next.

    assign --Metadata--> leaders --ListOffsets--> positions --Fetch--> records

Each partition has a position, the next offset wanted, and keeps it through every refusal: a new
leader is asked for the same offset. `seek` moves it anywhere, at any time, in any direction; what
was fetched for the old place is dropped. Batches are read whole and may begin before the
position; those records are skipped.

Bounds: one Fetch in flight for each broker, none for a partition with `buffer_records` not
taken yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kcluster.core.client.exchange import ASK_AGAIN, NOT_THE_LEADER, Exchange, coordinator_lane
from kcluster.core.client.places import Consumed, From, Place
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import NO_LEADER, TopicPartition
from kcluster.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kcluster.wire.records import Record, batches, check_crc, read_records

__all__ = ["Consumed", "ConsumerCore", "ConsumerSettings", "From", "Place"]

FETCH_VERSION: Final = 12
LIST_OFFSETS_VERSION: Final = 7

LATEST: Final = -1
EARLIEST: Final = -2


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    max_wait_ms: int = 500
    min_bytes: int = 1
    max_bytes: int = 50 << 20
    partition_max_bytes: int = 1 << 20
    buffer_records: int = 10_000
    """Of one partition, read and not taken yet."""


@dataclass(slots=True)
class _Partition:
    tp: TopicPartition
    start: From
    position: int = -1
    """Next offset wanted; -1 until the place to begin is known."""
    begin_offset: int = -1
    """Where the reading began; -1 until that is known."""
    log_start_offset: int = -1
    end_offset: int = -1
    """High watermark when the place to begin was looked up."""
    generation: int = 0
    """Rises with every seek: answers to older questions are dropped."""
    is_paused: bool = False
    """Neither fetched nor taken."""
    is_asking: bool = False
    waits_until_ms: int = 0
    buffered: int = 0
    lookup: dict[int, int] = field(default_factory=dict)
    """Offsets found, by the timestamp asked for."""


@dataclass(slots=True)
class _Run:
    """Records of one batch, from `first` on."""

    state: _Partition
    records: list[Record]
    first: int = 0


class ConsumerCore:
    def __init__(self, exchange: Exchange, settings: ConsumerSettings | None = None) -> None:
        self.settings = settings or ConsumerSettings()
        self.exchange = exchange
        self.problems: list[tuple[TopicPartition | None, ApiError]] = []
        """What cannot be read, and why. A partition named here is not asked for any more."""
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._wanted: dict[str, tuple[list[int] | None, From]] = {}
        """Topics whose partitions are not known yet."""
        self._runs: deque[_Run] = deque()
        """What was read and not taken, in the order in which it came."""
        self.last_taken: dict[TopicPartition, int] = {}
        """The last offset of each partition that the last `take` gave."""
        self._fetching: set[int] = set()
        """Brokers with a Fetch in flight."""
        exchange.on_metadata = self.pump

    # --- what the caller does

    def assign(self, topic: str, partitions: list[int] | None, start: From, now_ms: int) -> None:
        """Read these partitions, or all that the topic has when it is first seen."""
        self._wanted[topic] = (partitions, start)
        self.exchange.follow(topic, now_ms)
        self.pump(now_ms)

    def add(self, tp: TopicPartition, start: From, now_ms: int) -> None:
        """Read this partition as well, which exists."""
        assert tp not in self._partitions, tp
        self.exchange.follow(tp.topic, now_ms)
        self._partitions[tp] = _Partition(tp, start)

    def remove(self, tp: TopicPartition) -> None:
        """Read it no more. Records read and not taken yet are dropped."""
        state = self._partitions.pop(tp, None)
        if state is not None:
            state.generation += 1  # so that answers still to come are dropped as well
            self._runs = deque(run for run in self._runs if run.state is not state)

    def begin_offset(self, tp: TopicPartition) -> int:
        """Where the reading of a partition began; -1 while that is not known."""
        return self._partitions[tp].begin_offset

    def seek(self, tp: TopicPartition, start: From, now_ms: int) -> None:
        """Go on from there. Records read and not taken yet are dropped."""
        state = self._partitions[tp]
        state.start, state.position, state.lookup = start, -1, {}
        state.begin_offset = -1
        state.generation += 1
        state.is_asking = False
        state.buffered = 0
        self._runs = deque(run for run in self._runs if run.state is not state)
        self.pump(now_ms)

    def pause(self, *partitions: TopicPartition) -> None:
        """Have their records wait until `resume`; their positions stay. Those that are not read
        are left out."""
        for tp in partitions:
            if tp in self._partitions:
                self._partitions[tp].is_paused = True

    def resume(self, *partitions: TopicPartition, now_ms: int) -> None:
        for tp in partitions:
            if tp in self._partitions:
                self._partitions[tp].is_paused = False
        self.pump(now_ms)

    @property
    def paused(self) -> set[TopicPartition]:
        return {tp for tp, state in self._partitions.items() if state.is_paused}

    def take(self, limit: int | None = None) -> list[Consumed]:
        """Records that have come, in order within each partition."""
        taken: list[Consumed] = []
        self.last_taken = {}
        kept: deque[_Run] = deque()
        runs = self._runs
        while runs and (limit is None or len(taken) < limit):
            run = runs.popleft()
            state = run.state
            if state.is_paused:
                kept.append(run)
                continue
            records = run.records[run.first :] if run.first else run.records
            if limit is not None and len(taken) + len(records) > limit:
                records = records[: limit - len(taken)]
                run.first += len(records)
                runs.appendleft(run)
            tp = state.tp
            taken += [Consumed(tp, record) for record in records]
            state.buffered -= len(records)
            self.last_taken[tp] = records[-1].offset
        kept.extend(runs)
        self._runs = kept
        return taken

    @property
    def has_records(self) -> bool:
        """Records have come that `take` has not taken, and would."""
        return any(not run.state.is_paused for run in self._runs)

    def is_buffered(self, tp: TopicPartition) -> bool:
        """Records of this partition have come that `take` has not taken."""
        return self._partitions[tp].buffered > 0

    def next_offsets(self) -> dict[TopicPartition, int]:
        """The next offset that `take` would give, or a later one; -1 when that is not known."""
        found = self.positions()
        for run in reversed(self._runs):
            found[run.state.tp] = run.records[run.first].offset
        return found

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to be *fetched*; -1 when that is not known yet."""
        return {tp: state.position for tp, state in self._partitions.items()}

    def is_at_end(self) -> bool:
        """Everything that was there when the reading began has come (and may wait in `take`)."""
        return (
            not self._wanted
            and bool(self._partitions)
            and all(state.position >= state.end_offset >= 0 for state in self._partitions.values())
        )

    def next_deadline(self) -> int | None:
        deadlines = [
            state.waits_until_ms
            for state in self._partitions.values()
            if not state.is_asking
            and not (state.is_paused and state.position >= 0)
            and not self._is_full(state)
            and self.exchange.leader(state.tp) not in self._fetching
        ]
        exchange = self.exchange.next_deadline()
        if exchange is not None:
            deadlines.append(exchange)
        return min(deadlines, default=None)

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)
        self.pump(now_ms)

    # --- what to ask next

    def pump(self, now_ms: int) -> None:
        self._resolve_topics(now_ms)
        by_leader: dict[int, list[_Partition]] = {}
        for state in self._partitions.values():
            if state.is_asking or now_ms < state.waits_until_ms:
                continue
            leader = self.exchange.leader(state.tp)
            if leader == NO_LEADER:
                self._put_off(state, now_ms)
            elif state.position < 0:
                self._look_up(state, leader, now_ms)
            elif not state.is_paused and not self._is_full(state):
                by_leader.setdefault(leader, []).append(state)
        for leader, states in by_leader.items():
            if leader not in self._fetching:
                self._fetch(leader, states, now_ms)

    def _is_full(self, state: _Partition) -> bool:
        return state.buffered >= self.settings.buffer_records

    def _resolve_topics(self, now_ms: int) -> None:
        for topic, (partitions, start) in list(self._wanted.items()):
            view = self.exchange.topics[topic]
            if view.leaders:
                del self._wanted[topic]
                for partition in sorted(view.leaders) if partitions is None else partitions:
                    tp = TopicPartition(topic, partition)
                    if partition in view.leaders:
                        self._partitions[tp] = _Partition(tp, start)
                        continue
                    message = f"topic {topic} has partitions 0 to {len(view.leaders) - 1}"
                    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                    self.problems.append((tp, ApiError(code, message)))
            elif (view.error and view.error not in ASK_AGAIN) or (
                now_ms - view.missing_since_ms >= self.exchange.patience.topic_ms
            ):
                del self._wanted[topic]
                error = ApiError(view.error, f"there is no topic {topic} ({view.error.name})")
                self.problems.append((None, error))

    def _put_off(self, state: _Partition, now_ms: int) -> None:
        state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
        self.exchange.refresh_soon(now_ms)

    def _give_up(self, state: _Partition, error: ApiError) -> None:
        del self._partitions[state.tp]
        self.problems.append((state.tp, error))

    # --- where to begin

    def _look_up(self, state: _Partition, leader: int, now_ms: int) -> None:
        """One ListOffsets at a time: both ends first, then the time if one is wanted."""
        timestamp = EARLIEST
        if EARLIEST in state.lookup:
            timestamp = LATEST
        if LATEST in state.lookup:
            timestamp = state.start.value
        state.is_asking = True
        generation = state.generation

        def done(response: ListOffsetsResponse | None, now_ms: int) -> None:
            if generation == state.generation and state.tp in self._partitions:
                state.is_asking = False
                self._looked_up(state, timestamp, response, now_ms)
                self.pump(now_ms)

        self.exchange.ask(
            # The answer would wait behind that of a Fetch.
            coordinator_lane(leader) if leader in self._fetching else leader,
            ListOffsetsRequest(
                replica_id=-1,
                topics=[
                    ListOffsetsTopic(
                        name=state.tp.topic,
                        partitions=[
                            ListOffsetsPartition(
                                partition_index=state.tp.partition, timestamp=timestamp
                            )
                        ],
                    )
                ],
            ),
            LIST_OFFSETS_VERSION,
            ListOffsetsResponse,
            done,
            now_ms=now_ms,
        )

    def _looked_up(
        self,
        state: _Partition,
        timestamp: int,
        response: ListOffsetsResponse | None,
        now_ms: int,
    ) -> None:
        if response is None:
            self.exchange.try_another()
            self._put_off(state, now_ms)
            return
        answer = response.topics[0].partitions[0]
        code = ErrorCode(answer.error_code)
        if code in ASK_AGAIN:
            self._put_off(state, now_ms)
            return
        if code:
            self._give_up(state, ApiError(code, f"{state.tp}: {code.name}"))
            return
        state.lookup[timestamp] = answer.offset
        if EARLIEST not in state.lookup or LATEST not in state.lookup:
            return
        first, end = state.lookup[EARLIEST], state.lookup[LATEST]
        state.log_start_offset, state.end_offset = first, end
        self._place(state, first, end)
        if state.begin_offset < 0:
            state.begin_offset = state.position

    def _place(self, state: _Partition, first: int, end: int) -> None:
        match state.start.place:
            case Place.START:
                state.position = first
            case Place.END:
                state.position = end
            case Place.LAST:
                state.position = max(first, end - state.start.value)
            case Place.TIME:
                found = state.lookup.get(state.start.value)
                if found is not None:
                    state.position = found if found >= 0 else end
            case Place.NEAREST:
                state.position = max(first, min(state.start.value, end))
            case Place.OFFSET if first <= state.start.value <= end:
                state.position = state.start.value
            case Place.OFFSET:
                message = (
                    f"{state.tp} has no offset {state.start.value}: it holds {first} to {end - 1}"
                    if end > first
                    else f"{state.tp} has no offset {state.start.value}: it is empty at {end}"
                )
                self._give_up(state, ApiError(ErrorCode.OFFSET_OUT_OF_RANGE, message))

    # --- reading

    def _fetch(self, leader: int, states: list[_Partition], now_ms: int) -> None:
        topics: dict[str, FetchTopic] = {}
        asked = {state.tp: (state, state.generation, state.position) for state in states}
        for state in states:
            topic = topics.setdefault(
                state.tp.topic, FetchTopic(topic=state.tp.topic, partitions=[])
            )
            topic.partitions.append(
                FetchPartition(
                    partition=state.tp.partition,
                    current_leader_epoch=self.exchange.leader_epoch(state.tp),
                    fetch_offset=state.position,
                    partition_max_bytes=self.settings.partition_max_bytes,
                )
            )
        self._fetching.add(leader)

        def done(response: FetchResponse | None, now_ms: int) -> None:
            self._fetching.discard(leader)
            self._fetched(asked, response, now_ms)
            self.pump(now_ms)

        self.exchange.ask(
            leader,
            FetchRequest(
                max_wait_ms=self.settings.max_wait_ms,
                min_bytes=self.settings.min_bytes,
                max_bytes=self.settings.max_bytes,
                topics=list(topics.values()),
            ),
            FETCH_VERSION,
            FetchResponse,
            done,
            now_ms=now_ms,
            timeout_ms=self.settings.max_wait_ms + self.exchange.patience.request_ms,
        )

    def _fetched(
        self,
        asked: dict[TopicPartition, tuple[_Partition, int, int]],
        response: FetchResponse | None,
        now_ms: int,
    ) -> None:
        if response is None or response.error_code:
            self.exchange.try_another()
            for state, _, _ in asked.values():
                self._put_off(state, now_ms)
            return
        for topic in response.responses:
            for data in topic.partitions:
                tp = TopicPartition(topic.topic, data.partition_index)
                if tp not in asked:
                    continue
                state, generation, position = asked[tp]
                # Not what is wanted any more: it was moved meanwhile.
                if (state.generation, state.position) != (generation, position):
                    continue
                self._take_in(state, data, now_ms)

    def _take_in(self, state: _Partition, data: PartitionData, now_ms: int) -> None:
        code = ErrorCode(data.error_code)
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            # Retention took what is wanted: look again where the log begins and ends.
            state.start = From(Place.NEAREST, state.position)
            state.position, state.lookup = -1, {}
        elif code in ASK_AGAIN:
            leader = data.current_leader
            is_news = self.exchange.heard(state.tp, leader.leader_id, leader.leader_epoch)
            if not (code in NOT_THE_LEADER and is_news):
                self._put_off(state, now_ms)
        elif code:
            self._give_up(state, ApiError(code, f"{state.tp}: {code.name}"))
        elif data.records:
            self._read(state, data.records)

    def _read(self, state: _Partition, buffer: memoryview) -> None:
        for position, header in batches(buffer):
            if not check_crc(buffer, position, header.size):
                message = f"{state.tp}: the batch at offset {header.base_offset} is damaged"
                self._give_up(state, ApiError(ErrorCode.CORRUPT_MESSAGE, message))
                return
            if not header.is_control:
                records = read_records(buffer, position)
                wanted = state.position
                if header.base_offset < wanted:
                    records = [record for record in records if record.offset >= wanted]
                if records:
                    self._runs.append(_Run(state, records))
                    state.buffered += len(records)
                    state.position = records[-1].offset + 1
            # A compacted batch may end without its last records.
            state.position = max(state.position, header.last_offset + 1)
