from __future__ import annotations

from typing import Any

from kcluster.core.purgatory import Deadlines, Expired, OffsetQueue, Waiter
from kcluster.core.turn import Turn
from kcluster.errors import ErrorCode


class Patient(Waiter):
    def __init__(self, told: list[str], name: str = "") -> None:
        self.due_ms = 0
        self.told = told
        self.name = name

    def expire(self, turn: Turn) -> None:
        self.told.append(self.name)

    def reached(self, turn: Turn, index: int, error: ErrorCode) -> None:
        self.told.append(f"{self.name}{index}:{error.name}")


def ring(deadlines: Deadlines, turn: Turn, until_ms: int) -> None:
    due = sorted(
        (at, timer) for at, timer in turn.timers if at <= until_ms and isinstance(timer, Expired)
    )
    turn.timers = [entry for entry in turn.timers if entry[0] > until_ms]
    for at, timer in due:
        turn.now_ms = at
        deadlines.expired(timer, turn)
    turn.now_ms = until_ms


def test_a_deadline_is_never_early_and_late_by_little() -> None:
    for wait_ms in (0, 1, 7, 50, 500, 30_000):
        turn, told = Turn(), []
        turn.now_ms = 123_457
        deadlines = Deadlines()
        deadlines.add(turn, wait_ms, Patient(told, "x"))
        [(due_ms, _)] = turn.timers
        late = due_ms - turn.now_ms - wait_ms
        assert 0 < late <= max(8, wait_ms // 8) + 1


def test_waiters_of_the_same_while_share_a_timer() -> None:
    turn: Turn = Turn()
    deadlines = Deadlines()
    told: list[str] = []
    for n in range(100):
        turn.now_ms = 1_000_000 + n
        deadlines.add(turn, 30_000, Patient(told, str(n)))
    assert len(turn.timers) <= 2
    ring(deadlines, turn, 1_040_000)
    assert told == [str(n) for n in range(100)]
    assert deadlines.count == 0


def test_who_was_removed_does_not_expire() -> None:
    turn: Turn = Turn()
    deadlines, told = Deadlines(), list[str]()
    one, two = Patient(told, "one"), Patient(told, "two")
    deadlines.add(turn, 100, one)
    deadlines.add(turn, 100, two)
    deadlines.remove(one)
    deadlines.remove(one)
    ring(deadlines, turn, 1000)
    assert told == ["two"]


def test_an_offset_decides_all_up_to_it_in_order() -> None:
    queue, told, turn = OffsetQueue(), list[str](), Turn()
    waiter: Any = Patient(told)
    queue.add(5, waiter, 0)
    queue.add(9, waiter, 1)
    # A duplicate of the first comes late and is decided with it.
    queue.add(5, waiter, 2)
    queue.reach(turn, 8)
    assert told == ["0:NONE", "2:NONE"]
    queue.fail(turn, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert told[2:] == ["1:NOT_LEADER_OR_FOLLOWER"]
