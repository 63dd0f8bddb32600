"""Answers to the parts of one request, in any order, that leave as one response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kcluster.core.turn import Turn

T = TypeVar("T")


class Gathering(Generic[T]):
    def __init__(self, turn: Turn, count: int, then: Callable[[Turn, list[T]], None]) -> None:
        """`then` is told all `count` answers, in the order of the parts, once they are there: of
        none, at once."""
        self._answers: list[Any] = [None] * count
        self._missing = count
        self._then = then
        if not count:
            then(turn, [])

    def part(self, index: int) -> Callable[[Turn, T], None]:
        """Takes the answer to one part; to be called once."""

        def answer(turn: Turn, told: T) -> None:
            self._answers[index] = told
            self._missing -= 1
            if not self._missing:
                self._then(turn, self._answers)

        return answer
