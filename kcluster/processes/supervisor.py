"""The parent of all server processes: starts, watches, announces, signals, restarts, ends them.

    starter --JSON lines on stdin/stdout--> supervisor <--ZeroMQ-- every other command
                                             |  zygote --fork--> coordinator, brokers
                                             |  bus: Announce, Died, Freeze, Stop
                                             '-- pidfd of each: death is known in half a ms

A process of its own, never the command line or the screen. It decides nothing about the data:
it knows who should run, tells everybody who is where, and tells a death, which only a parent
knows for certain, to the coordinator and to every broker at once.

A supervisor that stays in the foreground ends cleanly when its starter does, which it sees by
the end of its standard input. When it is killed itself, the kernel kills all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence

import msgspec

from kcluster.core import traces
from kcluster.core.metadata import records
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Event, Received, Send
from kcluster.model import COORDINATOR, NO_LEADER, SUPERVISOR
from kcluster.processes.chronicle import Chronicle, Fields
from kcluster.processes.compactors import Compactors
from kcluster.processes.journal import Journal
from kcluster.processes.roster import ServerProcess
from kcluster.processes.server import ServerArguments
from kcluster.processes.workdir import Workdir, process_name
from kcluster.processes.zygote import ENTRIES, Spawner
from kcluster.wire.bus import (
    Announce,
    Bound,
    CompactionEnded,
    Died,
    Failed,
    Freeze,
    Message,
    ProcessState,
    Ready,
    StartCompaction,
    Stop,
    Traced,
)
from kcluster.wire.events import ClusterEvent
from kcluster.wire.telling import DescribeImage, Image
from kcluster.world import platform
from kcluster.world.bus import Bus
from kcluster.world.loop import EXIT_BUG

LED_TIMEOUT_MS = 2_000
"""How long `up` waits for a leader of every partition: some may have lost all replicas."""

ASK_AGAIN_MS = 1_000
"""The coordinator may be dead when it is asked, and be back later."""

LED_POLL_MS = 5


class StartFailed(Exception):
    """A process ended, or was not ready in time, while somebody waited for it to serve."""

    def __init__(self, process: ServerProcess, reason: str) -> None:
        super().__init__(reason)
        self.process = process
        self.reason = reason


class Supervisor:
    """One cluster's processes. All methods run on one loop."""

    def __init__(self, workdir: Workdir, spawner: Spawner, loop: asyncio.AbstractEventLoop) -> None:
        self.workdir = workdir
        self.phase = "starting"
        """starting, up, stopping."""
        self.roster = {
            id: ServerProcess(id)
            for id in (COORDINATOR, *(seat.id for seat in workdir.cluster.seats))
        }
        self.started_ms = wall_ms()
        self.on_ready: Callable[[ServerProcess], None] = lambda process: None
        self._spawner = spawner
        self._loop = loop
        self._compactors = Compactors(
            spawner,
            loop,
            self._begin_compaction,
            self._compaction_ended,
            at_once=max(1, platform.processors() // 2),
        )
        self._watches: dict[int, platform.PidWatch] = {}
        self._restarts: dict[int, asyncio.TimerHandle] = {}
        self._resumes: dict[int, asyncio.TimerHandle] = {}
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        """Of whoever waits for the next change of a process."""
        self._images: dict[int, asyncio.Future[list[records.Record]]] = {}
        self.journal = Journal(workdir.directory / "logs")
        self.on_events: Callable[[Sequence[ClusterEvent]], None] = lambda events: None
        self.chronicle = Chronicle(self.journal.next_seq, self._keep)
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.incarnation = workdir.next_incarnation()
        self._bus = Bus(
            SUPERVISOR, self.incarnation, workdir.endpoint(SUPERVISOR, self.incarnation), loop
        )
        self._bus.start(self._received)

    # --- the whole cluster ----------------------------------------------------------------

    async def up(self, timeout_ms: int) -> None:
        """Start everything; returns when writes are taken. Raises StartFailed."""
        deadline = now_ms() + timeout_ms
        launches = asyncio.gather(*(self.launch(process) for process in self.roster.values()))
        # Who cancels the start must not leave a process behind whose pid nobody has noted.
        await asyncio.shield(launches)
        await asyncio.gather(*(self.ready(process, deadline) for process in self.roster.values()))
        await self._all_led(deadline)
        self.phase = "up"

    async def _all_led(self, deadline: int) -> None:
        """Until every partition has a leader, as far as that can be."""
        deadline = min(deadline, now_ms() + LED_TIMEOUT_MS)
        while now_ms() < deadline:
            image = await self._image(deadline)
            if image is None or all(
                state.leader != NO_LEADER
                for topic in image.topics.values()
                for state in topic.partitions.values()
            ):
                return
            await asyncio.sleep(LED_POLL_MS / 1000)

    async def _image(self, deadline: int) -> ClusterImage | None:
        self._requests += 1
        answer = self._loop.create_future()
        self._images[self._requests] = answer
        self.tell([COORDINATOR], DescribeImage(self._requests))
        try:
            async with asyncio.timeout(max(0, deadline - now_ms()) / 1000):
                found = await answer
        except TimeoutError:
            return None
        finally:
            self._images.pop(self._requests, None)
        image = ClusterImage()
        for record in found:
            image.replay(record)
        return image

    async def replicas_of(self, ids: Sequence[int], deadline: int) -> list[str] | None:
        """Partitions that any of these brokers is a replica of; None: nobody could say."""
        while True:
            image = await self._image(min(deadline, now_ms() + ASK_AGAIN_MS))
            if image is not None:
                break
            if now_ms() >= deadline:
                return None
        return [
            f"{name}-{index}"
            for name, topic in sorted(image.topics.items())
            for index, state in sorted(topic.partitions.items())
            if not set(ids).isdisjoint(state.replicas)
        ]

    async def down(self, timeout_ms: int, *, is_forced: bool = False) -> None:
        """End everything. First nobody may elect or shrink any more (rule 8), then the brokers
        go, then the coordinator; who has not gone in time is killed."""
        if self.phase == "stopping" and not is_forced:
            await self.gone(self.roster)
            return
        self.phase = "stopping"
        for handle in (*self._restarts.values(), *self._resumes.values()):
            handle.cancel()
        self._restarts.clear()
        for process in self.roster.values():
            process.doom = process.doom or "stopped"
        if is_forced:
            self._kill_all()
        else:
            for process in self.roster.values():
                if process.state == "paused":
                    self.resume(process)
            self.tell(self.roster, Freeze())
            deadline = now_ms() + timeout_ms
            brokers = [id for id in self.roster if id != COORDINATOR]
            for group in (brokers, [COORDINATOR]):
                for id in group:
                    self.stop(self.roster[id], controlled=False)
                await self.gone(group, deadline)
            self._kill_all()
        await self.gone(self.roster)
        await self._compactors.gone(self.roster)

    def _kill_all(self) -> None:
        for process in self.roster.values():
            self.signal(process, signal.SIGKILL)

    def close(self) -> None:
        self._bus.close()
        self._spawner.close()
        self._compactors.close()
        for watch in self._watches.values():
            watch.close()
        self.journal.close()

    # --- one process ----------------------------------------------------------------------

    async def launch(self, process: ServerProcess) -> None:
        self.cancel_restart(process.id)
        incarnation = self.workdir.next_incarnation()
        process.launched(incarnation, now_ms(), wall_ms())
        # Recovery must have the directory for itself.
        await self._compactors.gone([process.id])
        arguments = self._arguments(process)
        entry = ENTRIES["coordinator" if process.id == COORDINATOR else "broker"]
        pid = await self._spawner.spawn(entry, arguments)
        process.pid = pid
        self.happened("process", "Started", f"started, pid {pid}", process)
        self._watches[process.id] = platform.PidWatch(
            self._loop,
            pid,
            lambda _, status: self._died(process, incarnation, status),
            portable=not self._spawner.has_zygote,
        )
        if self.phase == "stopping" or process.doom:
            # A command came while it was being forked, and found no process yet.
            process.doom = process.doom or "stopped"
            self.signal(process, signal.SIGKILL)
        elif process.endpoint:
            self.announce()  # it was quicker than its pid

    def _arguments(self, process: ServerProcess) -> ServerArguments:
        """Of its present incarnation."""
        cluster = self.workdir.cluster
        is_broker = process.id != COORDINATOR
        seat = next((seat for seat in cluster.seats if seat.id == process.id), None)
        return ServerArguments(
            id=process.id,
            incarnation=process.incarnation,
            data_dir=str(self.workdir.data_dir(process.id)),
            log_path=str(self.workdir.log_path(process.id)),
            endpoint=self.workdir.endpoint(process.id, process.incarnation),
            supervisor=ProcessState(
                SUPERVISOR, self.incarnation, self._bus.endpoint, os.getpid(), "running"
            ),
            host=cluster.host if is_broker else "",
            port=seat.port if seat is not None else 0,
            rack=seat.rack if seat is not None else "",
            advertise=(cluster.advertise or cluster.host) if is_broker else "",
            options=cluster.options,
            expected_brokers=[seat.id for seat in cluster.seats],
        )

    def _begin_compaction(self, id: int) -> None:
        self.spawn(self._compactors.fork(id, self._arguments(self.roster[id])))

    def _compaction_ended(self, id: int, incarnation: int, number: int, status: int) -> None:
        process = self.roster.get(id)
        if process is not None and process.is_alive and process.incarnation == incarnation:
            self.tell([id], CompactionEnded(number, status))

    def _died(self, process: ServerProcess, incarnation: int, status: int) -> None:
        """Its parent knows first: tell everybody before anything else."""
        process.ended_ns = time.monotonic_ns()
        self._watches.pop(process.id, None)
        if handle := self._resumes.pop(process.id, None):
            handle.cancel()
        others = [other for other in self.roster.values() if other is not process]
        delay_ms = process.died(status, self.workdir.cluster.restart, now_ms(), wall_ms())
        if self.phase != "stopping":
            self.tell((other.id for other in others), Died(process.id, incarnation))
        self.announce()
        self._compactors.kill(process.id)
        reason = f" ({process.last_words})" if process.last_words else ""
        self.say(f"{process_name(process.id)} ended: {process.last_end}{reason}")
        text = f"ended: {process.last_end}{reason}"
        how: Fields = {"how": process.last_end, "reason": process.last_words}
        self.happened("process", "Died", text, process, process.ended_ns, how)
        if delay_ms is not None and self.phase == "up":
            self.restart_later(process.id, delay_ms)
        self._changed(process.id)

    def restart_later(self, id: int, delay_ms: int) -> None:
        self.cancel_restart(id)
        self._restarts[id] = self._loop.call_later(
            delay_ms / 1000, lambda: self.spawn(self._start_again(id))
        )

    async def _start_again(self, id: int) -> None:
        self._restarts.pop(id, None)
        process = self.roster[id]
        if not process.is_alive and process.state != "starting" and self.phase == "up":
            await self.launch(process)

    def cancel_restart(self, id: int) -> None:
        if handle := self._restarts.pop(id, None):
            handle.cancel()

    async def ready(self, process: ServerProcess, deadline: int) -> None:
        """Until it serves. Raises StartFailed when it ends instead, or takes too long."""
        incarnation = process.incarnation
        while not (process.incarnation == incarnation and process.was_ready):
            if process.incarnation != incarnation or process.state in (
                "failed", "killed", "stopped",
            ):  # fmt: skip
                raise StartFailed(process, process.last_words or process.last_end)
            if not await self._change([process.id], deadline):
                raise StartFailed(process, "it was not ready in time")

    async def gone(self, ids: Iterable[int], deadline: int | None = None) -> bool:
        """Until none of them runs; whether that came true in time."""
        ids = list(ids)

        def is_there(id: int) -> bool:
            process = self.roster.get(id)  # None: removed meanwhile
            return process is not None and (process.is_alive or process.state == "starting")

        while any(map(is_there, ids)):
            if not await self._change(ids, deadline):
                return False
        return True

    async def _change(self, ids: Iterable[int], deadline: int | None) -> bool:
        """Until something changes about one of them; False when the time is over."""
        changed: asyncio.Future[None] = self._loop.create_future()
        lists = [self._waiters.setdefault(id, []) for id in ids]
        for waiters in lists:
            waiters.append(changed)
        try:
            timeout = None if deadline is None else max(0, deadline - now_ms()) / 1000
            await asyncio.wait_for(changed, timeout)
            return True
        except TimeoutError:
            return False
        finally:
            for waiters in lists:
                with contextlib.suppress(ValueError):
                    waiters.remove(changed)

    def _changed(self, id: int) -> None:
        for waiter in self._waiters.get(id, []):
            if not waiter.done():
                waiter.set_result(None)

    def signal(self, process: ServerProcess, number: int) -> None:
        """Ours and not yet reaped, so the pid is still its own."""
        if process.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def stop(self, process: ServerProcess, *, controlled: bool) -> None:
        """Ask it to end: by message, or by signal while its inbox is not bound."""
        if process.endpoint:
            self.tell([process.id], Stop(controlled))
        else:
            self.signal(process, signal.SIGTERM)

    def mark_stopped(self, process: ServerProcess) -> None:
        """It does not run, and is not to be started again by itself."""
        if process.state in ("failed", "killed"):
            process.enter("stopped", wall_ms())

    def remove(self, id: int) -> None:
        """It does not run, and never will again."""
        self.cancel_restart(id)
        process = self.roster.pop(id)
        assert not process.is_alive, "it is stopped first"
        self.workdir.remove_seat(id)
        self.happened("process", "Removed", "removed from the cluster", process)
        self.announce()

    def pause(self, process: ServerProcess, for_ms: int | None) -> None:
        self.signal(process, signal.SIGSTOP)
        process.enter("paused", wall_ms())
        until = f" for {for_ms} ms" if for_ms is not None else ""
        self.happened(
            "chaos", "Paused", f"SIGSTOP sent{until}", process, fields={"for_ms": for_ms or 0}
        )
        self.announce()
        if for_ms is not None:
            self._resumes[process.id] = self._loop.call_later(
                for_ms / 1000, lambda: self.resume(process)
            )

    def resume(self, process: ServerProcess) -> None:
        if handle := self._resumes.pop(process.id, None):
            handle.cancel()
        self.signal(process, signal.SIGCONT)
        if process.state == "paused":
            self.happened("chaos", "Resumed", "SIGCONT sent", process)
            process.enter("running" if process.was_ready else "starting", wall_ms())
            self.announce()
            self._changed(process.id)

    # --- the bus --------------------------------------------------------------------------

    def _received(self, event: Event) -> None:
        if not isinstance(event, Received):
            return
        process = self.roster.get(event.source)
        match event.message:
            case Image(request):
                answer = self._images.pop(request, None)
                if answer is not None and not answer.done():
                    answer.set_result(records.decode_all(bytes(event.payload[0])))
            case Bound(_, incarnation, endpoint) if process and process.incarnation == incarnation:
                if process.state == "starting":
                    process.endpoint = endpoint
                    self.announce()
            case Ready(_, incarnation) if process and process.incarnation == incarnation:
                process.was_ready = True
                if process.state == "starting":
                    process.enter("running", wall_ms())
                    self.announce()
                self.happened("process", "Ready", "serves", process)
                self.on_ready(process)
                self._changed(process.id)
            case StartCompaction(id, incarnation, number) if (
                process and process.is_alive and process.incarnation == incarnation
            ):
                if self.phase != "stopping":
                    self._compactors.want(id, incarnation, number)
            case Traced(at_ms, at_ns) if process:
                with contextlib.suppress(msgspec.DecodeError):
                    told = traces.decode(event.payload[0])
                    self.chronicle.heard(process.id, event.source_epoch, at_ms, at_ns, told)
            case Failed(_, incarnation, reason) if process and process.incarnation == incarnation:
                process.last_words = reason
            case _:
                pass

    def tell(self, ids: Iterable[int], message: Message) -> None:
        self._bus.send([Send(id, message) for id in ids if self.roster[id].endpoint])

    def announce(self) -> None:
        states = [process.as_state() for process in self.roster.values()]
        self._bus.peers_changed(states)
        self.tell(self.roster, Announce(states))

    def happened(
        self,
        type: str,
        event: str,
        text: str,
        process: ServerProcess,
        at_ns: int = 0,
        fields: Fields | None = None,
    ) -> None:
        """An event of one process that we did, or saw. `at_ns` of CLOCK_MONOTONIC, or now."""
        now_ns = time.monotonic_ns()
        at_ns = at_ns or now_ns
        self.chronicle.did(
            type,
            event,
            text,
            broker=process.id,
            incarnation=process.incarnation,
            at_ms=wall_ms() - (now_ns - at_ns) // 1_000_000,
            monotonic_ns=at_ns,
            fields=fields,
        )

    def _keep(self, events: Sequence[ClusterEvent]) -> None:
        self.journal.append(events)
        self.on_events(events)

    def say(self, text: str) -> None:
        print(f"{wall_ms()} {text}", file=sys.stderr, flush=True)  # noqa: T201 - its log

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody awaits these tasks: what went wrong in one is told here, and ends it all."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
            os._exit(EXIT_BUG)


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
