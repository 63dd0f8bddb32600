"""What a kill caused, step by step, from the events that tell of it. Pure.

    signalled    the signal was sent                    died         its parent knows
    detected     the coordinator has fenced it          elected      all that it led has leaders
    first_write  records are committed there again      registered   a new incarnation is a member
    in_sync      back in the last of its ISRs           recovered    unfenced, in sync, all led

Times are those of the processes in which it happened, all of one clock (CLOCK_MONOTONIC). A step
whose event was missed is found in the image, with the time of that look. The coordinator is
fenced by nobody and leads nothing: signalled, died, recovered, which is when it serves again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kcluster.core.metadata.image import ClusterImage
from kcluster.model import COORDINATOR, NO_LEADER, TopicPartition
from kcluster.wire.bus import ProcessState
from kcluster.wire.control import Moment
from kcluster.wire.events import ClusterEvent

STAGES = ("detected", "elected", "recovered")
"""What can be waited for, in the order in which it comes."""


class Step(msgspec.Struct, frozen=True):
    event: str
    id: int
    """Of the victim."""
    ms: float
    """Since the first signal."""
    partitions: int | None = None
    """That it is about: how many."""
    first_ms: float | None = None
    """Of the first of them; `ms` is that of the last."""
    partition: str = ""
    """elected and in_sync: the last one; first_write: where."""
    is_late: bool = False
    """Its event was missed: it happened before that."""


class Victim:
    """One process that is killed. Times in ns; 0 for what has not happened yet."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.incarnation = 0
        self.broker_epoch = -1
        self.signalled = 0
        self.died = 0
        self.was_fenced = False
        """Already when it was killed."""
        self.detected = 0
        self.registered = 0
        self.unfenced = 0
        self.served = 0
        """The coordinator's next incarnation is ready."""
        self.led: dict[TopicPartition, int] = {}
        """What it led when it was killed, and when another leader was found."""
        self.held: set[TopicPartition] = set()
        self.out: set[TopicPartition] = set()
        """Of these, where it is in no ISR now."""
        self.back: dict[TopicPartition, int] = {}
        """When it came back into ISRs that it had fallen out of."""
        self.writes: dict[TopicPartition, int] = {}
        """When something was first committed under another leader."""
        self.late: set[str] = set()

    def is_reached(self, stage: str) -> bool:
        if not self.died:
            return False
        if self.id == COORDINATOR:
            return stage != "recovered" or bool(self.served)
        is_detected = bool(self.detected)
        if stage == "detected":
            return is_detected
        is_elected = is_detected and all(self.led.values())
        if stage == "elected":
            return is_elected
        return is_elected and bool(self.registered and self.unfenced) and not self.out

    @property
    def recovered(self) -> int:
        """When; only asked once it has."""
        if self.id == COORDINATOR:
            return self.served
        return max(self.unfenced, *self.back.values(), *self.led.values(), 0)


class Timeline:
    """Of one kill, of one or more processes at once."""

    def __init__(self, victims: Sequence[int], before: ClusterImage | None) -> None:
        """`before`: the image as it was shortly before the kill; what changes between the two is
        heard as events."""
        self.victims = {id: Victim(id) for id in victims}
        self._epochs: dict[TopicPartition, int] = {}
        """Leader epochs, as long as the victims lead."""
        if before is None:
            return
        for id, victim in self.victims.items():
            broker = before.brokers.get(id)
            if broker is not None:
                victim.broker_epoch = broker.broker_epoch
                victim.was_fenced = broker.is_fenced
        for topic in before.topics.values():
            for index, state in topic.partitions.items():
                tp = TopicPartition(topic.name, index)
                self._epochs[tp] = state.leader_epoch
                for victim in self.victims.values():
                    if victim.id in state.replicas:
                        victim.held.add(tp)
                        if victim.id not in state.isr:
                            victim.out.add(tp)
                    if state.leader == victim.id:
                        victim.led[tp] = 0

    # --- what is told ---------------------------------------------------------------------

    def sent(self, moments: Iterable[Moment]) -> None:
        """The supervisor's answer to the kill; before any event of it."""
        for moment in moments:
            victim = self.victims[moment.id]
            victim.incarnation = moment.incarnation
            if moment.event == "signalled":
                victim.signalled = moment.monotonic_ns
            elif moment.event == "died":
                self._died(victim, moment.monotonic_ns)

    def heard(self, events: Iterable[ClusterEvent]) -> None:
        for event in events:
            if event.topic:
                self._about_partition(event)
            elif event.broker in self.victims:
                self._about_victim(self.victims[event.broker], event)

    def seen(self, image: ClusterImage | None, states: Iterable[ProcessState], now_ns: int) -> None:
        """How it is now: for what no event has told."""
        for state in states:
            victim = self.victims.get(state.id)
            if victim is None:
                continue
            is_next = state.incarnation > victim.incarnation > 0
            if not victim.died and (is_next or state.state in ("killed", "stopped", "failed")):
                self._died(victim, now_ns)
                victim.late.add("died")
            if victim.id == COORDINATOR and is_next and state.state == "running":
                self._late(victim, "served", "recovered", now_ns)
        if image is None:
            return
        for victim in self.victims.values():
            if victim.id != COORDINATOR and victim.died:
                self._seen_broker(victim, image, now_ns)

    def _seen_broker(self, victim: Victim, image: ClusterImage, now_ns: int) -> None:
        broker = image.brokers.get(victim.id)
        is_next = broker is not None and broker.broker_epoch != victim.broker_epoch
        if broker is None or broker.is_fenced or is_next:
            self._late(victim, "detected", "detected", now_ns)
        if broker is not None and is_next:
            self._late(victim, "registered", "registered", now_ns)
            if not broker.is_fenced:
                self._late(victim, "unfenced", "recovered", now_ns)
        for tp in list(victim.held | victim.led.keys()):
            state = image.partition(tp)
            if state is None:
                self._forget(tp)
                continue
            is_other = state.leader_epoch > self._epochs.get(tp, -1)
            if victim.led.get(tp) == 0 and state.leader != NO_LEADER and is_other:
                victim.led[tp] = now_ns
                victim.late.add("elected")
            if victim.id not in state.isr:
                victim.out.add(tp)
            elif tp in victim.out:
                victim.out.discard(tp)
                victim.back[tp] = now_ns
                victim.late |= {"in_sync", "recovered"}

    def _late(self, victim: Victim, name: str, step: str, now_ns: int) -> None:
        if not getattr(victim, name):
            setattr(victim, name, now_ns)
            victim.late.add(step)

    def _died(self, victim: Victim, at: int) -> None:
        if not victim.died:
            victim.died = at
            if victim.was_fenced:
                victim.detected = at

    def _about_victim(self, victim: Victim, event: ClusterEvent) -> None:
        at = event.monotonic_ns
        if at < victim.signalled:
            if event.event == "BrokerFenced":
                victim.was_fenced = True
            elif event.event == "BrokerUnfenced":
                victim.was_fenced = False
            return
        match event.event:
            case "Died" if event.incarnation == victim.incarnation:
                self._died(victim, at)
            case "BrokerFenced":
                victim.detected = victim.detected or at
            case "BrokerRegistered":
                victim.registered = victim.registered or at
                victim.detected = victim.detected or at
            case "BrokerUnfenced" if victim.registered:
                victim.unfenced = victim.unfenced or at
            case "Ready" if event.incarnation > victim.incarnation:
                victim.served = victim.served or at

    def _about_partition(self, event: ClusterEvent) -> None:
        tp, at, fields = (
            TopicPartition(event.topic, event.partition),
            event.monotonic_ns,
            event.fields,
        )
        match event.event:
            case "Elected":
                for victim in self.victims.values():
                    self._elected(victim, tp, fields, at)
            case "IsrShrunk" | "IsrExpanded":
                isr = fields["isr"]
                assert isinstance(isr, list)
                for victim in self.victims.values():
                    if victim.id in isr:
                        if tp in victim.out and at >= victim.signalled:
                            victim.back[tp] = at
                        victim.out.discard(tp)
                        victim.held.add(tp)
                    elif tp in victim.held:
                        victim.out.add(tp)
            case "FirstCommitted" if int(str(fields["leader_epoch"])) > self._epochs.get(tp, -1):
                for victim in self.victims.values():
                    if at >= victim.signalled:
                        victim.writes.setdefault(tp, at)
            case "TopicDeleted":
                for known in [each for each in self._epochs if each.topic == event.topic]:
                    self._forget(known)

    def _elected(
        self,
        victim: Victim,
        tp: TopicPartition,
        fields: dict[str, str | int | bool | list[int]],
        at: int,
    ) -> None:
        leader = fields["leader"]
        if leader == victim.id and (at < victim.signalled or not victim.died or at < victim.died):
            # It came to lead this one only just before its end.
            victim.led[tp] = 0
            self._epochs[tp] = int(str(fields["leader_epoch"]))
        elif tp in victim.led:
            if at < victim.signalled:
                del victim.led[tp]
            elif leader != NO_LEADER:
                victim.led[tp] = victim.led[tp] or at

    def _forget(self, tp: TopicPartition) -> None:
        """Its topic was deleted: nothing is to be waited for."""
        self._epochs.pop(tp, None)
        for victim in self.victims.values():
            victim.led.pop(tp, None)
            victim.held.discard(tp)
            victim.out.discard(tp)

    # --- what it comes to -----------------------------------------------------------------

    def is_reached(self, stage: str) -> bool:
        return all(victim.is_reached(stage) for victim in self.victims.values())

    @property
    def stage(self) -> str:
        """How far it has got: signalled, died, or one of STAGES."""
        far = "died" if all(victim.died for victim in self.victims.values()) else "signalled"
        for stage in STAGES:
            if not self.is_reached(stage):
                break
            far = stage
        return far

    def reached(self) -> str:
        """The same, and what it lacks to get further."""
        return self.stage + self._lacking(self.stage)

    def _lacking(self, stage: str) -> str:
        victims = self.victims.values()
        if stage == "detected":
            unled = sorted(str(tp) for victim in victims for tp, at in victim.led.items() if not at)
            return f": no leader for {_some(unled)}"
        if stage == "elected":
            away = [
                str(each.id) for each in victims if each.id != COORDINATOR and not each.unfenced
            ]
            if away:
                return f": broker {', '.join(away)} is not back"
            if out := sorted(str(tp) for victim in victims for tp in victim.out):
                return f": not in the ISR of {_some(out)}"
        return ""

    def ms(self, stage: str) -> float | None:
        """From the first signal until all victims have come to `stage`; None: they have not."""
        if not self.is_reached(stage):
            return None
        return max((step.ms for step in self.steps() if step.event == stage), default=None)

    def steps(self) -> list[Step]:
        """What is known to have happened, in the order of its times."""
        begin = min(victim.signalled for victim in self.victims.values())
        found = [step for victim in self.victims.values() for step in _steps(victim, begin)]
        return sorted(found, key=lambda step: step.ms)


def _some(partitions: list[str]) -> str:
    if len(partitions) == 1:
        return partitions[0]
    return f"{len(partitions)} partitions, such as {partitions[0]}"


def _steps(victim: Victim, begin: int) -> list[Step]:
    """In the order in which they are caused."""

    def ms(at: int) -> float:
        return round((at - begin) / 1e6, 1)

    def step(event: str, at: int) -> Step:
        return Step(event, victim.id, ms(at), is_late=event in victim.late)

    plain = [(name, getattr(victim, name)) for name in ("signalled", "died", "detected")]
    found = [step(event, at) for event, at in plain if at]
    if victim.id != COORDINATOR and victim.is_reached("elected"):
        elections = victim.led or {TopicPartition("", 0): victim.detected}
        last = max(elections, key=lambda tp: elections[tp])
        found.append(
            msgspec.structs.replace(
                step("elected", elections[last]),
                partitions=len(victim.led),
                first_ms=ms(min(elections.values())) if victim.led else None,
                partition=str(last) if victim.led else "",
            )
        )
    writes = {tp: at for tp, at in victim.writes.items() if victim.led.get(tp)}
    if writes:
        tp = min(writes, key=lambda tp: writes[tp])
        found.append(Step("first_write", victim.id, ms(writes[tp]), len(writes), partition=str(tp)))
    if victim.registered:
        found.append(step("registered", victim.registered))
    if victim.back and not victim.out:
        last = max(victim.back, key=lambda tp: victim.back[tp])
        found.append(
            msgspec.structs.replace(
                step("in_sync", victim.back[last]),
                partitions=len(victim.back),
                first_ms=ms(min(victim.back.values())),
                partition=str(last),
            )
        )
    if victim.is_reached("recovered"):
        found.append(step("recovered", victim.recovered))
    return found
