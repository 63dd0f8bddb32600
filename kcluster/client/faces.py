"""What the faces of a client core share: waiting in the caller's thread, or in an event loop.

    def _poll(self, ...) -> Waiting[list[Consumed]]     written once: what to wait for
        yield 100                                       until something happens, 100 ms at most

    class Consumer:       poll = Blocking(_poll)        consumer.poll(...)
    class AsyncConsumer:  poll = Awaited(_poll)         await consumer.poll(...)

The core is the same, and the driver: one is stepped by whoever waits, the other by the event loop
when a socket can be read or the core's next deadline has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from kcluster.client.driver import Core, Driver, Transport

T = TypeVar("T")
P = ParamSpec("P")

Waiting = Generator[float, None, T]
"""Yields how many ms to wait at most; goes on when something has happened, or time is over."""


class SyncFace:
    """Runs a core whenever it is asked to wait."""

    def __init__(self, core: Core, transport: Transport) -> None:
        self._transport = transport
        self._driver = Driver(core, transport)

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    def _run(self, waiting: Waiting[T]) -> T:
        try:
            while True:
                self._driver.step(int(next(waiting)))
        except StopIteration as end:
            found: T = end.value
            return found

    def _stir(self) -> None:
        """The core has something to send: it goes out with the next step."""

    def _close(self) -> None:
        self._transport.close()


class AsyncFace:
    """Has the running event loop run a core. To be made inside it."""

    def __init__(self, core: Core, transport: Transport) -> None:
        self._transport = transport
        self._driver = Driver(core, transport)
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None
        self._stirred = False
        self._descriptor = transport.fileno()
        self._loop.add_reader(self._descriptor, self._step)

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    async def _run(self, waiting: Waiting[T]) -> T:
        try:
            while True:
                await self._wait(next(waiting))
        except StopIteration as end:
            found: T = end.value
            return found
        finally:
            waiting.close()

    async def _wait(self, timeout_ms: float) -> None:
        has_changed = self._advance()
        if self._failure is not None:
            raise self._failure
        if has_changed or timeout_ms <= 0:
            # Perhaps it was this that is waited for.
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(waiter)
        timer = self._loop.call_later(timeout_ms / 1000, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)

    def _stir(self) -> None:
        """The core has something to send: once this turn of the event loop is over."""
        if not self._stirred:
            self._stirred = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._advance()

    def _advance(self) -> bool:
        """Whatever can be done now; whether anything was. Whoever waits looks whether it was what
        it waits for."""
        self._stirred = False
        if self._failure is not None:
            return False
        has_changed = False
        try:
            while self._driver.step(0):
                has_changed = True
        except Exception as failure:  # whoever waits is to hear of it
            self._failure = failure
            self._loop.remove_reader(self._descriptor)
            has_changed = True
        self._after_step()
        self._arm()
        if has_changed:
            for waiter in self._waiters:
                _wake(waiter)
        return has_changed

    def _after_step(self) -> None:
        """What a face does with what a step has brought."""

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._failure is not None:
            return
        due_ms = self._driver.next_deadline_ms()
        due_s = self._transport.next_deadline_s()
        wait_s = [due_ms / 1000 - time.monotonic()] if due_ms is not None else []
        if due_s is not None:
            wait_s.append(due_s - time.monotonic())
        if wait_s:
            # Deadlines are whole ms: a little later rather than once too often.
            self._timer = self._loop.call_later(max(0.0005, min(wait_s)), self._due)

    def _due(self) -> None:
        self._timer = None
        self._step()
        for waiter in self._waiters:
            _wake(waiter)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._failure is None:
            self._loop.remove_reader(self._descriptor)
            self._failure = RuntimeError("it is closed")
        self._transport.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Blocking(Generic[P, T]):
    """A method that waits in the caller's thread."""

    def __init__(self, method: Callable[Concatenate[Any, P], Waiting[T]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, face: None, owner: Any) -> Blocking[P, T]: ...

    @overload
    def __get__(self, face: SyncFace, owner: Any) -> Callable[P, T]: ...

    def __get__(self, face: SyncFace | None, owner: Any) -> Callable[P, T] | Blocking[P, T]:
        if face is None:
            return self
        method = self._method

        def call(*args: P.args, **given: P.kwargs) -> T:
            return face._run(method(face, *args, **given))

        return call


class Awaited(Generic[P, T]):
    """The same, to be awaited."""

    def __init__(self, method: Callable[Concatenate[Any, P], Waiting[T]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, face: None, owner: Any) -> Awaited[P, T]: ...

    @overload
    def __get__(self, face: AsyncFace, owner: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(
        self, face: AsyncFace | None, owner: Any
    ) -> Callable[P, Coroutine[Any, Any, T]] | Awaited[P, T]:
        if face is None:
            return self
        method = self._method

        def call(*args: P.args, **given: P.kwargs) -> Coroutine[Any, Any, T]:
            return face._run(method(face, *args, **given))

        return call


class Deadline:
    """So many ms from now on; None for no end."""

    def __init__(self, timeout_ms: float | None) -> None:
        self._end = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    @property
    def left_ms(self) -> float:
        """Not below 0."""
        if self._end is None:
            return 3_600_000
        return max(0.0, (self._end - time.monotonic()) * 1000)

    @property
    def is_over(self) -> bool:
        return self.left_ms <= 0
