"""What a broker knows of the other brokers' lives, for the clients that ask it.

*Are you there?* A client whose leader has just died hears of it from the kernel, when its
connection breaks, and asks a survivor for Metadata within a millisecond: often before the
supervisor's death notice has arrived. Told of the old leader once more, librdkafka does not ask
again before its next scan, up to a second later (seen with 2.16). So the survivor asks the leaders
in question whether they are there, and who is dead cannot answer: one round trip on the bus.

*Just left.* A broker that is fenced stays in Metadata's list for a moment. librdkafka ends the
handle of a broker that is not listed any more, and a partition that is moving away from it at
that moment gets lost until the next scan, up to a second as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kcluster.core.metadata.image import BrokerImage, ClusterImage
from kcluster.core.turn import Turn
from kcluster.wire import bus

LISTED_MS: Final = 10_000
"""How long Metadata goes on naming a broker that left: clients have moved by then."""


class Neighbours:
    def __init__(self) -> None:
        self._left_ms: dict[int, int] = {}
        """When a broker was fenced, by id; only those that are."""
        self._silent: dict[int, set[int]] = {}
        """Brokers that have not answered yet, by question."""
        self._next_question = 1

    # --- are you there?

    def ask(self, turn: Turn, ids: Iterable[int]) -> int:
        """Put the question to them; its number. `forget` it once it does not matter."""
        number = self._next_question
        self._next_question += 1
        self._silent[number] = set(ids)
        for id in sorted(self._silent[number]):
            turn.send(id, bus.AreYouThere(number))
        return number

    def answered(self, id: int, number: int) -> None:
        self._silent.get(number, set()).discard(id)

    def silent(self, number: int) -> set[int]:
        """Who has not answered it."""
        return self._silent.get(number, set())

    def forget(self, number: int) -> None:
        self._silent.pop(number, None)

    # --- just left

    def changed(self, image: ClusterImage, ids: Iterable[int], now_ms: int) -> None:
        """These brokers' places in the image are other ones now."""
        for id in ids:
            if id not in image.brokers or image.is_alive(id):
                self._left_ms.pop(id, None)
            else:
                self._left_ms.setdefault(id, now_ms)

    def listed(self, image: ClusterImage, now_ms: int) -> list[BrokerImage]:
        """The living and those that just left, by id."""
        return [
            member
            for id, member in sorted(image.brokers.items())
            if not member.is_fenced or now_ms - self._left_ms.get(id, -LISTED_MS) < LISTED_MS
        ]
