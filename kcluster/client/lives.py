"""What a journal tells of each process, and the causes of its troubles in words. Pure.

A cause is a chain, the nearest first: "broker 3 was fenced 3 ms after it died", "SIGKILL by
kill-broker". Where the events do not say, the chain ends with UNKNOWN: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kcluster.model import COORDINATOR
from kcluster.wire.events import ClusterEvent

UNKNOWN = "cause not in the journal"

Clock = Callable[[int], str]
"""A wall clock time in ms, for people."""

CLOCKS_AGREE_MS = 5_000
"""The monotonic clock begins anew when a machine boots, and stands still while it sleeps: where
the two clocks differ by more, the wall clock is right."""


class Life(msgspec.Struct):
    """The last event of each kind, of one process."""

    signalled: ClusterEvent | None = None
    asked: ClusterEvent | None = None
    died: ClusterEvent | None = None
    paused: ClusterEvent | None = None
    resumed: ClusterEvent | None = None
    registered: ClusterEvent | None = None
    unfenced: ClusterEvent | None = None
    fenced: ClusterEvent | None = None
    ready: ClusterEvent | None = None


FIELDS = {
    "Signalled": "signalled", "Asked": "asked", "Died": "died", "Paused": "paused",
    "Resumed": "resumed", "BrokerRegistered": "registered", "BrokerUnfenced": "unfenced",
    "BrokerFenced": "fenced", "Ready": "ready",
}  # fmt: skip


class Lives:
    """Of all processes, as of the event that was heard last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lives: dict[int, Life] = {}

    def __getitem__(self, id: int) -> Life:
        return self._lives.setdefault(id, Life())

    def heard(self, event: ClusterEvent) -> None:
        if name := FIELDS.get(event.event):
            setattr(self[event.broker], name, event)

    # --- causes ---------------------------------------------------------------------------

    def death(self, id: int) -> str:
        """How it last ended; UNKNOWN when that was not told."""
        life = self[id]
        died = life.died
        if died is None:
            return UNKNOWN
        signalled = life.signalled
        if signalled is not None and signalled.incarnation == died.incarnation:
            return f"{signalled.fields.get('signal', 'a signal')} by kill-broker"
        if life.asked is not None and life.asked.incarnation == died.incarnation:
            return "stopped by stop-broker or restart"
        how, reason = (str(died.fields.get(name, "")) for name in ("how", "reason"))
        return (f"{how}, {reason}" if reason else how) or UNKNOWN

    def fencing(self, id: int, at: ClusterEvent) -> list[str]:
        """Why it was fenced in the decision that `at` belongs to."""
        fenced = self[id].fenced
        if fenced is None or not is_one_decision(fenced, at):
            return [UNKNOWN]
        match fenced.fields.get("cause"):
            case "died":
                died = self[id].died
                if died is None:
                    return [f"broker {id} was fenced: its process had ended", UNKNOWN]
                first = f"broker {id} was fenced {ms(died, fenced)} after it {_ended(died)}"
                ready = self[COORDINATOR].ready
                if ready is not None and ready.monotonic_ns > died.monotonic_ns:
                    first += f", since the coordinator ran only from {self._clock(ready.at_ms)} on"
                return [first, self.death(id)]
            case "session expired":
                silent_ms = int(str(fenced.fields.get("silent_ms", -1)))
                silence = f"not heard of for {silent_ms:,} ms" if silent_ms >= 0 else "not heard of"
                pause = self.pause(id, fenced, silent_ms)
                return [f"broker {id} was fenced: {silence}", pause or UNKNOWN]
            case "new incarnation":
                return [f"broker {id} had ended and registered anew", self.death(id)]
        return [f"broker {id} was fenced", str(fenced.fields.get("cause") or UNKNOWN)]

    def shutdown(self, id: int, at: ClusterEvent) -> list[str]:
        life = self[id]
        last = max(
            (event for event in (life.asked, life.signalled) if event is not None),
            key=lambda event: event.seq,
            default=None,
        )
        first = f"broker {id} was shutting down"
        if last is None or (life.died is not None and life.died.seq > last.seq):
            return [first, UNKNOWN]
        if last is life.signalled:
            by = f"{last.fields.get('signal', 'a signal')} by kill-broker"
        else:
            by = "asked to by stop-broker or restart"
        return [first, f"{by}, {ms(last, at)} before"]

    def pause(self, id: int, until: ClusterEvent, within_ms: int) -> str:
        """The pause that lies within so many ms before `until`, in words; empty for none."""
        paused, resumed = self[id].paused, self[id].resumed
        if paused is None:
            return ""
        begin = self._clock(paused.at_ms)
        if resumed is None or resumed.seq < paused.seq:
            died = self[id].died
            has_ended = died is not None and died.seq > paused.seq
            return "" if has_ended else f"paused by pause-broker since {begin}"
        if between_ms(resumed, until) > within_ms:
            return ""
        return f"paused by pause-broker from {begin} to {self._clock(resumed.at_ms)}"

    def loss(self, id: int) -> list[str]:
        registered = self[id].registered
        if registered is not None and registered.fields.get("restart") == "lossy":
            return [f"broker {id} came back after a crash that may have cost it records"]
        return [f"broker {id} came back without records that it had promised to hold"]

    def absence(self, id: int) -> list[str]:
        """It had not come back by the end of a coordinator's start."""
        return [*self.start(f"broker {id} had not come back"), self.death(id)]

    def start(self, and_what: str) -> list[str]:
        ready = self[COORDINATOR].ready
        if ready is None:
            return [and_what]
        return [f"the coordinator had begun anew at {self._clock(ready.at_ms)}, and {and_what}"]

    def catching_up(self, id: int, left: ClusterEvent | None, at: ClusterEvent) -> list[str]:
        """It came back into an ISR; `left`: the event with which it fell out of it."""
        life = self[id]
        away = left.seq if left is not None else -1
        registered, unfenced, fenced = life.registered, life.unfenced, life.fenced
        if (
            registered is not None
            and registered.seq > away
            and (fenced is None or registered.seq > fenced.seq)
        ):
            after = f", {ms(registered, at)} after it registered"
            if life.died is not None:
                after += f", {ms(life.died, at)} after it {_ended(life.died)}"
        elif unfenced is not None and unfenced.seq > away:
            after = f", {ms(unfenced, at)} after it was unfenced"
        elif left is not None:
            after = f", {ms(left, at)} after it had left the ISR"
        else:
            after = ""
        return [f"broker {id} caught up{after}"]


def _ended(died: ClusterEvent) -> str:
    return "ended" if str(died.fields.get("how", "")).startswith("exit 0") else "died"


def is_one_decision(one: ClusterEvent, other: ClusterEvent) -> bool:
    """Told in one turn of the same process."""
    return (one.process, one.incarnation, one.monotonic_ns) == (
        other.process, other.incarnation, other.monotonic_ns,
    )  # fmt: skip


def between_ms(earlier: ClusterEvent, later: ClusterEvent) -> float:
    exact = (later.monotonic_ns - earlier.monotonic_ns) / 1e6
    wall = later.at_ms - earlier.at_ms
    return exact if abs(exact - wall) < CLOCKS_AGREE_MS else float(wall)


def ms(earlier: ClusterEvent, later: ClusterEvent) -> str:
    return duration(between_ms(earlier, later))


def duration(ms: float) -> str:
    """To a tenth below 10 ms; whole ms up to a minute, as whoever compares them wants."""
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 60_000:
        return f"{ms:,.0f} ms"
    return f"{ms / 60_000:.0f} min" if ms < 3_600_000 else f"{ms / 3_600_000:.1f} h"
