"""What the supervisor does when it is asked over ZeroMQ, one function for each command.

    DEALER [number, command] --> ROUTER --> Commands.carry_out --> [number, answer]

Commands run side by side, each as a task: a kill does not wait for a start that takes its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import zmq

from kcluster.limits import LIMITS
from kcluster.processes.roster import ServerProcess
from kcluster.processes.supervisor import StartFailed, Supervisor, now_ms
from kcluster.processes.workdir import process_name
from kcluster.wire import control as c
from kcluster.wire.events import ClusterEvent
from kcluster.world import platform

COMMAND_BYTES_MAX = 1 << 20

EXIT_UNKNOWN = 4
"""No such broker."""

DEADLY = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT)


FOLLOWERS_MAX = 64
LEASE_MS_MAX = 60_000
WATCH_MS_MIN = 100

OF_PROCESSES = ("process", "chaos")
"""Types of events that go with a change of a process."""

EVENTS_KEPT = 10_000
"""In memory, for who joins a little late or lost the thread; beyond that there is the journal."""


class _Follower(msgspec.Struct):
    """Follows events, or watches processes."""

    number: int
    """Of its request."""
    until_s: float
    """Of the loop's clock."""
    interval_s: float = 0.0


class ControlServer:
    """The supervisor's ROUTER socket on its loop."""

    def __init__(self, endpoint: str, commands: Commands, loop: asyncio.AbstractEventLoop) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, COMMAND_BYTES_MAX)
        self._socket.setsockopt(zmq.SNDHWM, LIMITS.send_queue_max)
        self._socket.bind(endpoint)
        self._commands = commands
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: dict[bytes, _Follower] = {}
        self._watchers: dict[bytes, _Follower] = {}
        self._watch_handle: asyncio.TimerHandle | None = None
        commands.on_events(self._tell)
        self._decoder = msgspec.msgpack.Decoder(c.Asked)
        self._encoder = msgspec.msgpack.Encoder()
        self._fd: int = self._socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        loop.add_reader(self._fd, self._drain)
        loop.call_soon(self._drain)

    def close(self) -> None:
        if self._watch_handle is not None:
            self._watch_handle.cancel()
        self._loop.remove_reader(self._fd)
        self._socket.close()
        self._context.term()

    def _drain(self) -> None:
        """The descriptor tells of changes only, so everything is taken each time."""
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            try:
                asked = self._decoder.decode(frames[-1] if frames else b"")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # not from any client of ours
            if isinstance(asked.command, c.Follow):
                self._follow(identity, asked.number, asked.command)
                continue
            if isinstance(asked.command, c.Watch):
                self._watch(identity, asked.number, asked.command)
                continue
            task = self._loop.create_task(self._answer(identity, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _follow(self, identity: bytes, number: int, command: c.Follow) -> None:
        """Anew, or for longer. It is answered at once: with what it missed, or with nothing."""
        if identity not in self._followers and len(self._followers) >= FOLLOWERS_MAX:
            self._send(identity, number, c.Refused("too many follow events already"))
            return
        until_s = self._loop.time() + min(command.lease_ms, LEASE_MS_MAX) / 1000
        self._followers[identity] = _Follower(number, until_s)
        missed = self._commands.events_after(command.after) if command.after >= 0 else []
        self._send(identity, number, c.Told(missed))

    def _tell(self, events: Sequence[ClusterEvent]) -> None:
        self._send_all(self._followers, c.Told(list(events)))
        if self._watchers and any(event.type in OF_PROCESSES for event in events):
            # Once what is going on has been carried out.
            self._loop.call_soon(self._tell_watchers)

    def _watch(self, identity: bytes, number: int, command: c.Watch) -> None:
        """Anew, or for longer; only who is new hears at once."""
        known = self._watchers.get(identity)
        if known is None and len(self._watchers) >= FOLLOWERS_MAX:
            self._send(identity, number, c.Refused("too many watch processes already"))
            return
        until_s = self._loop.time() + min(command.lease_ms, LEASE_MS_MAX) / 1000
        interval_s = max(command.interval_ms, WATCH_MS_MIN) / 1000
        self._watchers[identity] = _Follower(number, until_s, interval_s)
        if known is None or known.number != number:
            self._send(identity, number, self._commands.describe())
        if self._watch_handle is None:
            self._watch_handle = self._loop.call_later(interval_s, self._watch_due)

    def _watch_due(self) -> None:
        self._watch_handle = None
        self._tell_watchers()
        if self._watchers:
            interval_s = min(watcher.interval_s for watcher in self._watchers.values())
            self._watch_handle = self._loop.call_later(interval_s, self._watch_due)

    def _tell_watchers(self) -> None:
        if self._watchers:
            self._send_all(self._watchers, self._commands.describe())

    def _send_all(self, followers: dict[bytes, _Follower], answer: c.Answer) -> None:
        """To those whose leases are not over."""
        if not followers:
            return
        now_s = self._loop.time()
        for identity, follower in list(followers.items()):
            if follower.until_s < now_s:
                del followers[identity]
            else:
                self._send(identity, follower.number, answer)
        self._drain()

    def _send(self, identity: bytes, number: int, answer: c.Answer) -> None:
        """Dropped when who asked is gone, or does not read."""
        frames = [identity, self._encoder.encode(c.Answered(number, answer))]
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(frames, zmq.NOBLOCK)

    async def _answer(self, identity: bytes, asked: c.Asked) -> None:
        try:
            answer = await self._commands.carry_out(asked.command)
        except Exception as error:
            # Who asked waits for an answer, and the cluster goes on.
            traceback.print_exc()
            answer = c.Refused(
                f"the supervisor failed at {type(asked.command).__name__}",
                f"{type(error).__name__}: {error}",
                "kcluster logs supervisor",
            )
        self._socket.send_multipart(
            [identity, self._encoder.encode(c.Answered(asked.number, answer))]
        )
        # Sending may have swallowed the descriptor's news of what came meanwhile.
        self._drain()


class Commands:
    """Carries out commands on a supervisor. `ended` is set when `down` has been carried out."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._events: deque[ClusterEvent] = deque(maxlen=EVENTS_KEPT)
        self._tell: Callable[[Sequence[ClusterEvent]], None] = lambda events: None
        self.ended = asyncio.Event()
        supervisor.on_events = self._happened

    def on_events(self, tell: Callable[[Sequence[ClusterEvent]], None]) -> None:
        self._tell = tell

    def events_after(self, seq: int) -> list[ClusterEvent]:
        """As far as they are remembered."""
        return [event for event in self._events if event.seq > seq]

    def _happened(self, events: Sequence[ClusterEvent]) -> None:
        self._events.extend(events)
        self._tell(events)

    async def carry_out(self, command: c.Command) -> c.Answer:
        supervisor = self._supervisor
        if supervisor.phase == "stopping" and not isinstance(command, c.Describe | c.Down):
            return c.Refused(
                "the cluster is going down", "", f"kcluster up -c {self._name}", exit_code=3
            )
        ids = getattr(command, "ids", None)
        unknown = [id for id in ids or [] if id not in supervisor.roster]
        if unknown:
            return self._unknown(unknown)
        try:
            match command:
                case c.Describe():
                    return self.describe()
                case c.Kill():
                    return await self._kill(command)
                case c.Start():
                    return await self._start(command)
                case c.Stop():
                    return await self._stop(command)
                case c.Restart():
                    await self._stop(c.Stop(command.ids, command.timeout_ms))
                    return await self._start(c.Start(command.ids, command.timeout_ms))
                case c.Pause():
                    return self._pause(command)
                case c.Resume():
                    return self._resume(command)
                case c.AddBroker():
                    return await self._add(command)
                case c.RemoveBroker():
                    return await self._remove(command)
                case c.Down():
                    await supervisor.down(command.timeout_ms, is_forced=command.is_forced)
                    self.ended.set()
                    return c.Done(sorted(supervisor.roster))
                case c.Follow():
                    return c.Told(self.events_after(command.after))
                case c.Watch():
                    return self.describe()
        except StartFailed as failed:
            log = supervisor.workdir.log_path(failed.process.id)
            return c.Refused(
                f"{process_name(failed.process.id)} did not start",
                failed.reason,
                f"tail {log}",
            )

    @property
    def _name(self) -> str:
        return self._supervisor.workdir.cluster.name

    def _unknown(self, ids: list[int]) -> c.Refused:
        valid = [str(id) for id in sorted(self._supervisor.roster) if id]
        return c.Refused(
            f"no broker {', '.join(map(str, ids))} in cluster {self._name}",
            f"its brokers are {', '.join(valid)}",
            f"kcluster status -c {self._name}",
            exit_code=EXIT_UNKNOWN,
        )

    def describe(self) -> c.Description:
        supervisor = self._supervisor
        cluster = supervisor.workdir.cluster
        seats = {seat.id: seat for seat in cluster.seats}
        processes = []
        for id, process in sorted(supervisor.roster.items()):
            seat = seats.get(id)
            processes.append(
                c.ProcessInfo(
                    process.as_state(),
                    host=(cluster.advertise or cluster.host) if seat else "",
                    port=seat.port if seat else 0,
                    data_dir=str(supervisor.workdir.data_dir(id)),
                    log_path=str(supervisor.workdir.log_path(id)),
                    rss_bytes=platform.rss_bytes(process.pid) if process.pid else 0,
                    cpu_ms=platform.cpu_ms(process.pid) if process.pid else 0,
                    since_ms=process.since_ms,
                    starts=process.starts,
                    last_end=process.last_words or process.last_end,
                )
            )
        return c.Description(
            cluster.name,
            str(supervisor.workdir.directory),
            os.getpid(),
            supervisor.phase,
            cluster.restart,
            cluster.options,
            processes,
            supervisor.started_ms,
            platform.cpu_ms(os.getpid()),
            platform.rss_bytes(os.getpid()),
            dict(supervisor.chronicle.counts),
        )

    # --- one function for each ------------------------------------------------------------

    async def _kill(self, command: c.Kill) -> c.Answer:
        supervisor = self._supervisor
        roster = supervisor.roster
        idle = [roster[id] for id in command.ids if not roster[id].is_alive]
        if idle:
            return self._not_running(idle[0])
        is_deadly = command.signal in DEADLY
        moments = []
        for id in command.ids:
            process = roster[id]
            if is_deadly:
                process.doom = "killed" if command.signal == signal.SIGKILL else "stopped"
            moments.append(_moment("signalled", process))
            supervisor.signal(process, command.signal)
            name = signal.Signals(command.signal).name
            at_ns = moments[-1].monotonic_ns
            supervisor.happened(
                "chaos", "Signalled", f"{name} sent", process, at_ns, {"signal": name}
            )
        if not is_deadly:
            return c.Done(command.ids, moments)
        deadline = now_ms() + command.timeout_ms
        for id in command.ids:
            if await supervisor.gone([id], deadline):
                moments.append(_death(roster[id]))
                if command.restart_after_ms is not None:
                    supervisor.restart_later(id, command.restart_after_ms)
        return c.Done(command.ids, moments)

    async def _start(self, command: c.Start) -> c.Answer:
        supervisor = self._supervisor
        deadline = now_ms() + command.timeout_ms
        started = [supervisor.roster[id] for id in command.ids]
        for process in started:
            if process.state == "paused":
                return c.Refused(
                    f"{process_name(process.id)} is paused, not stopped",
                    "",
                    f"kcluster resume-broker {process.id} -c {self._name}",
                )
        begun = [
            supervisor.launch(process)
            for process in started
            if not process.is_alive and process.state != "starting"
        ]
        await asyncio.gather(*begun)
        moments = [_moment("started", process) for process in started]
        if command.waits_until_ready:
            for process in started:
                await supervisor.ready(process, deadline)
                moments.append(_moment("ready", process))
        return c.Done(command.ids, moments)

    async def _stop(self, command: c.Stop) -> c.Answer:
        supervisor = self._supervisor
        moments = []
        alive = [id for id in command.ids if supervisor.roster[id].is_alive]
        for id in command.ids:
            supervisor.cancel_restart(id)
            if id not in alive:
                supervisor.mark_stopped(supervisor.roster[id])
        for id in alive:
            process = supervisor.roster[id]
            process.doom = "stopped"
            self._wake(process)
            moments.append(_moment("asked", process))
            supervisor.stop(process, controlled=True)
            supervisor.happened("chaos", "Asked", "asked to stop", process)
        if not await supervisor.gone(alive, now_ms() + command.timeout_ms):
            for id in alive:
                supervisor.signal(supervisor.roster[id], signal.SIGKILL)
            await supervisor.gone(alive)
        moments += [_death(supervisor.roster[id]) for id in alive]
        return c.Done(command.ids, moments)

    def _pause(self, command: c.Pause) -> c.Answer:
        supervisor = self._supervisor
        for id in command.ids:
            process = supervisor.roster[id]
            if not process.is_alive:
                return self._not_running(process)
        for id in command.ids:
            supervisor.pause(supervisor.roster[id], command.for_ms)
        return c.Done(command.ids, [_moment("paused", supervisor.roster[i]) for i in command.ids])

    def _resume(self, command: c.Resume) -> c.Answer:
        supervisor = self._supervisor
        for id in command.ids:
            process = supervisor.roster[id]
            if not process.is_alive:
                return self._not_running(process)
        for id in command.ids:
            self._wake(supervisor.roster[id])
        return c.Done(command.ids, [_moment("resumed", supervisor.roster[i]) for i in command.ids])

    async def _add(self, command: c.AddBroker) -> c.Answer:
        supervisor = self._supervisor
        seat = supervisor.workdir.add_seat(command.rack)
        supervisor.workdir.save()
        supervisor.roster[seat.id] = ServerProcess(seat.id)
        return await self._start(c.Start([seat.id], command.timeout_ms))

    async def _remove(self, command: c.RemoveBroker) -> c.Answer:
        supervisor = self._supervisor
        if len(supervisor.roster) - len(set(command.ids)) < 2:
            return c.Refused(
                "the last broker cannot be removed",
                "a cluster has one at least",
                f"kcluster purge -c {self._name}",
            )
        done = await self._stop(c.Stop(command.ids, command.timeout_ms))
        # Of a broker that was down while its replicas moved away, what it has goes with it: not
        # before metadata says so.
        held = await supervisor.replicas_of(command.ids, now_ms() + command.timeout_ms)
        if held is None or held:
            named = ", ".join(map(str, command.ids))
            return c.Refused(
                f"broker {named} cannot be removed",
                "the coordinator does not answer" if held is None else f"it holds {held[0]}",
                f"kcluster status -c {self._name}",
            )
        for id in command.ids:
            supervisor.remove(id)
        return done

    def _wake(self, process: ServerProcess) -> None:
        if process.state == "paused":
            self._supervisor.resume(process)

    def _not_running(self, process: ServerProcess) -> c.Refused:
        is_coordinator = process.id == 0
        what = "start-broker --coordinator" if is_coordinator else f"start-broker {process.id}"
        return c.Refused(
            f"{process_name(process.id)} is not running",
            f"it is {process.state}" + (f" ({process.last_end})" if process.last_end else ""),
            f"kcluster {what} -c {self._name}",
        )


def _moment(event: str, process: ServerProcess) -> c.Moment:
    return c.Moment(event, process.id, process.incarnation, time.monotonic_ns())


def _death(process: ServerProcess) -> c.Moment:
    return c.Moment("died", process.id, process.incarnation, process.ended_ns)
