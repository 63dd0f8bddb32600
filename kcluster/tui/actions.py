"""What the screen can do to a cluster: each with the command line that would do the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from kcluster.client.control import BusClient, ControlClient
from kcluster.client.requests import any_broker
from kcluster.errors import ErrorCode, UsageError
from kcluster.model import COORDINATOR
from kcluster.tui.view import Choice, Menu, View
from kcluster.wire import control as c
from kcluster.wire.messages import elect_leaders as el

SIGNALS = {"9": "KILL", "1": "TERM", "2": "INT"}
PAUSE_MS = 5_000
RESTART_AFTER_MS = 5_000
TIMEOUT_MS = 30_000
DEFAULT_CLUSTER = "dev"

LOAD = ("load", "--duration", "0", "--rate", "500", "--size", "1000")
"""Enough to be seen, and little enough to leave a laptop its cores."""

PREFERRED = 0
"""The type of ElectLeaders."""


@dataclass(frozen=True, slots=True)
class Action:
    command: str
    """The command line that would do the same."""
    broker: int
    """What it is done to; -1 for the cluster."""
    doing: str
    done: str
    carry_out: Callable[[ControlClient], object]


def _sent(command: c.Command, timeout_ms: int = TIMEOUT_MS) -> Callable[[ControlClient], object]:
    return lambda control: control.command(command, timeout_ms)


def _line(view: View, words: str) -> str:
    suffix = "" if view.name == DEFAULT_CLUSTER else f" -c {view.name}"
    return f"kcluster {words}{suffix}"


def _who(id: int) -> str:
    return str(id) if id else "--coordinator"


def _name(id: int) -> str:
    return f"broker {id}" if id else "coordinator"


def kill(view: View, id: int, name: str = "KILL", *, restart_after_ms: int | None = None) -> Action:
    words = f"kill-broker {_who(id)}"
    if name != "KILL":
        words += f" --signal {name}"
    done = f"{_name(id)}: SIG{name} sent"
    if restart_after_ms is not None:
        words += f" --restart-after {restart_after_ms // 1000}s"
        done += f", starts again in {restart_after_ms // 1000} s"
    number = int(signal.Signals[f"SIG{name}"])
    return Action(
        _line(view, words), id, f"killing {_name(id)}", done,
        _sent(c.Kill([id], number, restart_after_ms)),
    )  # fmt: skip


def pause(view: View, id: int, for_ms: int | None = None) -> Action:
    words = f"pause-broker {_who(id)}"
    done = f"{_name(id)} stands still"
    if for_ms is not None:
        words += f" --for {for_ms // 1000}s"
        done += f" for {for_ms // 1000} s"
    return Action(
        _line(view, words), id, f"pausing {_name(id)}", done, _sent(c.Pause([id], for_ms))
    )


def resume(view: View, id: int) -> Action:
    return Action(
        _line(view, f"resume-broker {_who(id)}"), id, f"resuming {_name(id)}",
        f"{_name(id)} goes on", _sent(c.Resume([id])),
    )  # fmt: skip


def start(view: View, id: int) -> Action:
    return Action(
        _line(view, f"start-broker {_who(id)}"), id, f"starting {_name(id)}",
        f"{_name(id)} runs", _sent(c.Start([id])),
    )  # fmt: skip


def restart(view: View, id: int) -> Action:
    return Action(
        _line(view, f"restart-broker {_who(id)}"), id, f"restarting {_name(id)}",
        f"{_name(id)} runs again", _sent(c.Restart([id]), 2 * TIMEOUT_MS),
    )  # fmt: skip


def stop(view: View, id: int) -> Action:
    return Action(
        _line(view, f"stop-broker {_who(id)}"), id, f"stopping {_name(id)}",
        f"{_name(id)} is stopped", _sent(c.Stop([id])),
    )  # fmt: skip


def add_broker(view: View) -> Action:
    return Action(
        _line(view, "add-broker"), -1, "adding a broker", "a broker was added",
        _sent(c.AddBroker()),
    )  # fmt: skip


def elect_leaders(view: View) -> Action:
    def elect(control: ControlClient) -> None:
        states = control.states()
        with BusClient() as servers:
            broker = any_broker(states, servers, view.name)
            answer = broker.request(
                el.ElectLeadersRequest(
                    election_type=PREFERRED, topic_partitions=None, timeout_ms=TIMEOUT_MS
                )
            )
        if answer.error_code:
            raise UsageError(
                "nobody was elected", ErrorCode(answer.error_code).name, _line(view, "status")
            )

    return Action(
        _line(view, "elect-leaders"), -1, "electing preferred leaders",
        "partitions are led by their preferred leaders, where these live", elect,
    )  # fmt: skip


def load_command(view: View) -> str:
    return _line(view, " ".join(LOAD))


# --- what the keys mean now ---------------------------------------------------------------


def pause_or_resume(view: View) -> Action:
    id = view.selected
    return resume(view, id) if view.selected_state == "paused" else pause(view, id)


def restart_or_start(view: View) -> Action:
    id, state = view.selected, view.selected_state
    if state == "paused":
        return resume(view, id)
    return restart(view, id) if state in ("running", "starting") else start(view, id)


def kill_menu(view: View) -> Menu:
    choices = [Choice(key, f"SIG{name}", f"kill_with('{name}')") for key, name in SIGNALS.items()]
    return Menu(f"kill {view.selected_name} with", choices, is_prompt=True)


def faults_menu(view: View) -> Menu:
    """What there is, for what is selected and for the partition under the cursor."""
    id, who = view.selected, view.selected_name
    seconds = PAUSE_MS // 1000
    choices = [
        Choice("k", f"kill {who}, start it again after {RESTART_AFTER_MS // 1000} s",
               f"fault('kill', {id})"),
        Choice("p", f"pause {who} for {seconds} s", f"fault('pause', {id})"),
    ]  # fmt: skip
    partition = view.partition()
    if partition is not None and not partition.is_offline:
        leader = partition.leader
        choices.append(
            Choice("l", f"kill broker {leader}, which leads {partition.topic}-"
                   f"{partition.partition}", f"fault('leader', {leader})")
        )  # fmt: skip
    if id != COORDINATOR:
        choices.append(Choice("0", "kill the coordinator", f"fault('leader', {COORDINATOR})"))
    choices += [
        Choice("e", "elect preferred leaders", "fault('elect', -1)"),
        Choice("a", "add a broker", "fault('add', -1)"),
    ]
    return Menu("faults", choices)


def fault(view: View, what: str, id: int) -> Action:
    match what:
        case "kill":
            return kill(view, id, restart_after_ms=RESTART_AFTER_MS)
        case "pause":
            return pause(view, id, PAUSE_MS)
        case "leader":
            return kill(view, id)
        case "elect":
            return elect_leaders(view)
    return add_broker(view)


def leave_menu() -> Menu:
    choices = [
        Choice("q", "leave it running", "leave_running"),
        Choice("s", "stop the cluster; its data stays", "stop_cluster"),
    ]
    return Menu("leave the screen: and the cluster?", choices, is_prompt=True)
