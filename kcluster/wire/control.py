"""What the command line and the library say to a supervisor, and what it answers.

Two ways in, one set of values. Who starts a supervisor holds its standard input and output and
talks in lines of JSON:

    Up                --->                 then, as long as it stays in the foreground:
                      <---  Progress ...   "stop" or "kill" as one more line
                      <---  Refused | Running

Everybody else asks over ZeroMQ: a DEALER to the supervisor's ROUTER, one MessagePack frame
[request number, request] and one frame [request number, answer] back. A command is answered
when it is carried out; asking twice for what is already so is no error.
"""

from __future__ import annotations

import msgspec

from kcluster.wire.bus import ProcessState
from kcluster.wire.events import ClusterEvent


class Up(msgspec.Struct, frozen=True, tag=True):
    """What a cluster should be. None: as it was, or the default of a new one."""

    name: str
    directory: str | None = None
    """Absolute; None for the default place."""
    brokers: int | None = None
    port: int | None = None
    """Of the first broker; the others follow."""
    is_any_port: bool = False
    host: str | None = None
    advertise: str | None = None
    restart: str | None = None
    """no, on-failure or always."""
    options: dict[str, str] | None = None
    """Broker configs of `-X`, checked."""
    is_ephemeral: bool = False
    is_fresh: bool = False
    """Delete what is there first."""
    is_detached: bool = False
    """Otherwise the cluster ends with whoever holds the supervisor's standard input."""
    timeout_ms: int = 30_000
    transport: str | None = None
    """ipc or tcp: how the processes talk to each other."""
    racks: list[str] | None = None
    """In which the brokers stand, in turn; empty for none."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """One line to its starter."""

    event: str
    """warm, directory, ready, failed, up, stopping, stopped."""
    id: int = -1
    """Broker id or 0 for the coordinator, where the event is about one."""
    text: str = ""
    elapsed_ms: float = 0.0
    """Since the request was read."""
    bootstrap: str = ""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It cannot be: what, why, and what to try next."""

    what: str
    why: str = ""
    hint: str = ""
    exit_code: int = 1


class Running(msgspec.Struct, frozen=True, tag=True):
    """The cluster is up already; `differences` says in what it is not as asked."""

    name: str
    directory: str
    bootstrap: str
    differences: list[str]


Line = Progress | Refused | Running


# --- over ZeroMQ --------------------------------------------------------------------------


class Describe(msgspec.Struct, frozen=True, tag=True):
    pass


class Kill(msgspec.Struct, frozen=True, tag=True):
    """Send `signal` and do not start again, except after `restart_after_ms`. Id 0: coordinator.
    Answered once the kernel has said that they are dead, or at once for a signal that does not
    kill within `timeout_ms`."""

    ids: list[int]
    signal: int = 9
    restart_after_ms: int | None = None
    timeout_ms: int = 5_000


class Start(msgspec.Struct, frozen=True, tag=True):
    """Answered when they are ready."""

    ids: list[int]
    timeout_ms: int = 30_000
    waits_until_ready: bool = True


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Controlled shutdown; SIGKILL after `timeout_ms`."""

    ids: list[int]
    timeout_ms: int = 30_000


class Restart(msgspec.Struct, frozen=True, tag=True):
    ids: list[int]
    timeout_ms: int = 30_000


class Pause(msgspec.Struct, frozen=True, tag=True):
    """SIGSTOP, and SIGCONT after `for_ms`."""

    ids: list[int]
    for_ms: int | None = None


class Resume(msgspec.Struct, frozen=True, tag=True):
    ids: list[int]


class AddBroker(msgspec.Struct, frozen=True, tag=True):
    timeout_ms: int = 30_000
    rack: str | None = None
    """None: that with the fewest brokers, if there are any."""


class RemoveBroker(msgspec.Struct, frozen=True, tag=True):
    """Stop it for good: it has no place in the cluster any more. Its replicas have gone before."""

    ids: list[int]
    timeout_ms: int = 30_000


class Down(msgspec.Struct, frozen=True, tag=True):
    """Everything ends; answered when only the supervisor is left."""

    timeout_ms: int = 30_000
    is_forced: bool = False
    """SIGKILL at once."""


class Follow(msgspec.Struct, frozen=True, tag=True):
    """Tell me events from now on, each time that there are any: `Told`, under this request's
    number, as often as needed. Asked again before `lease_ms` are over by whoever goes on."""

    after: int
    """What this seq and those before it say is known already. -1: from now on."""
    lease_ms: int = 10_000


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Tell me a `Description` now, every `interval_ms`, and whenever a process changes, under
    this request's number. Asked again before `lease_ms` are over by whoever goes on."""

    interval_ms: int = 1_000
    lease_ms: int = 10_000


Command = (
    Describe
    | Kill
    | Start
    | Stop
    | Restart
    | Pause
    | Resume
    | AddBroker
    | RemoveBroker
    | Down
    | Follow
    | Watch
)


class ProcessInfo(msgspec.Struct, frozen=True):
    state: ProcessState
    host: str = ""
    """As clients are told; empty for the coordinator."""
    port: int = 0
    data_dir: str = ""
    log_path: str = ""
    rss_bytes: int = 0
    cpu_ms: int = 0
    """User and system time since its start."""
    since_ms: int = 0
    """Wall clock of the last change of its state."""
    starts: int = 0
    last_end: str = ""
    """How the last incarnation ended: "SIGKILL by command", "exit 1", ..."""


class Description(msgspec.Struct, frozen=True, tag=True):
    name: str
    directory: str
    supervisor_pid: int
    phase: str
    """starting, up, stopping."""
    restart: str
    options: dict[str, str]
    processes: list[ProcessInfo]
    started_ms: int = 0
    """Wall clock."""
    cpu_ms: int = 0
    rss_bytes: int = 0
    events: dict[str, int] = {}
    """How often each kind of event came since it started."""


class Moment(msgspec.Struct, frozen=True):
    """One event of a command, for its timeline."""

    event: str
    """signalled, died, started, ready, ..."""
    id: int
    incarnation: int
    monotonic_ns: int
    """CLOCK_MONOTONIC: the same clock in every process of this machine."""


class Done(msgspec.Struct, frozen=True, tag=True):
    ids: list[int]
    moments: list[Moment] = []


class Told(msgspec.Struct, frozen=True, tag=True):
    events: list[ClusterEvent]
    """In their order. Where the first is not the next one, those between are in the journal, if
    anywhere. Empty: none yet."""


Answer = Description | Done | Refused | Told


class Asked(msgspec.Struct, frozen=True, array_like=True):
    number: int
    command: Command


class Answered(msgspec.Struct, frozen=True, array_like=True):
    number: int
    answer: Answer
