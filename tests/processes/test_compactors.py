"""Compactors in line: how many at once, in which order, and who loses his place."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

from kcluster.processes.compactors import Compactors
from kcluster.processes.zygote import Spawner

TIMEOUT_S = 10


class Sleepers(Spawner):
    """Processes that do nothing until they are killed."""

    def __init__(self) -> None:
        super().__init__(None)

    async def spawn(self, entry: str, arguments: Any) -> int:
        process = subprocess.Popen(["sleep", "60"])
        process.returncode = 0  # Compactors reaps it; Popen must not
        pid: int = process.pid
        return pid


class Line:
    def __init__(self, at_once: int) -> None:
        self.begun: list[int] = []
        self.ended: list[tuple[int, int, int, int]] = []
        loop = asyncio.get_running_loop()
        self.compactors = Compactors(
            Sleepers(), loop, self.begun.append, lambda *what: self.ended.append(what), at_once
        )

    async def run_and_end(self, id: int) -> None:
        await self.compactors.fork(id, None)  # type: ignore[arg-type]
        self.compactors.kill(id)
        async with asyncio.timeout(TIMEOUT_S):
            await self.compactors.gone([id])


def test_who_asked_first_is_served_first() -> None:
    async def story() -> None:
        line = Line(at_once=1)
        for id in (2, 1, 3, 2, 1):
            line.compactors.want(id, 7, 1)
        assert line.begun == [2]
        for id in (2, 1, 3):
            await line.run_and_end(id)
        assert line.begun == [2, 1, 3]
        assert line.ended == [(2, 7, 1, -9), (1, 7, 1, -9), (3, 7, 1, -9)]

    asyncio.run(story())


def test_a_broker_that_dies_loses_its_place() -> None:
    async def story() -> None:
        line = Line(at_once=1)
        for id in (1, 2, 3):
            line.compactors.want(id, 7, 1)
        line.compactors.kill(2)
        await line.run_and_end(1)
        line.compactors.want(2, 8, 1)
        assert line.begun == [1, 3]
        await line.run_and_end(3)
        await line.run_and_end(2)
        assert line.begun == [1, 3, 2]

    asyncio.run(story())


def test_as_many_at_once_as_there_is_room_for() -> None:
    async def story() -> None:
        line = Line(at_once=2)
        for id in (1, 2, 3):
            line.compactors.want(id, 7, 1)
        assert line.begun == [1, 2]
        await line.run_and_end(2)
        assert line.begun == [1, 2, 3]
        for id in (1, 3):
            await line.run_and_end(id)

    asyncio.run(story())


def test_the_end_of_a_job_is_told_again_to_who_asks_again() -> None:
    async def story() -> None:
        line = Line(at_once=1)
        line.compactors.want(1, 7, 1)
        await line.run_and_end(1)
        line.compactors.want(1, 7, 1)
        assert line.begun == [1]
        assert line.ended == [(1, 7, 1, -9), (1, 7, 1, -9)]

    asyncio.run(story())
