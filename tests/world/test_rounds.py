"""Rounds: nobody reads twice where another has not read once, and an iteration has its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcluster.world.rounds import ITERATION_BYTES, Rounds


class Loop:
    """The one call that rounds make."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)


def read(rounds: Rounds, loop: Any, last_read: dict[str, int], size: int) -> str:
    """One iteration in which all are readable, in their order; who has read."""
    soon, loop.soon = loop.soon, []
    for callback in soon:
        callback()
    names = [name for name, last in last_read.items() if _reads(rounds, last, size)]
    last_read.update(dict.fromkeys(names, rounds.number))
    return "".join(names)


def _reads(rounds: Rounds, last: int, size: int) -> bool:
    if not rounds.admits(last):
        return False
    rounds.spend(size)
    return True


def test_all_read_in_turn_whoever_the_loop_names_first() -> None:
    loop: Any = Loop()
    rounds = Rounds(loop)
    half = ITERATION_BYTES // 2
    last_read = dict.fromkeys("abcde", 0)
    heard = [read(rounds, loop, last_read, half) for _ in range(6)]
    assert heard == ["ab", "cd", "e", "ab", "cd", "e"]


def test_who_comes_into_a_round_reads_in_it() -> None:
    loop: Any = Loop()
    rounds = Rounds(loop)
    last_read = dict.fromkeys("abc", 0)
    assert read(rounds, loop, last_read, ITERATION_BYTES) == "a"
    last_read["d"] = 0
    heard = [read(rounds, loop, last_read, ITERATION_BYTES) for _ in range(4)]
    assert heard == ["b", "c", "d", "a"]


def test_a_round_ends_when_those_who_were_left_over_have_nothing_more() -> None:
    loop: Any = Loop()
    rounds = Rounds(loop)
    last_read = dict.fromkeys("ab", 0)
    assert read(rounds, loop, last_read, ITERATION_BYTES) == "a"
    del last_read["b"]
    assert [read(rounds, loop, last_read, ITERATION_BYTES) for _ in range(2)] == ["", "a"]


def test_few_bytes_keep_nobody_waiting() -> None:
    loop: Any = Loop()
    rounds = Rounds(loop)
    last_read = dict.fromkeys("abc", 0)
    assert [read(rounds, loop, last_read, 1000) for _ in range(3)] == ["abc"] * 3
    assert not rounds.is_spent
