"""What follows a kill, with times: noticed, led by others, back in every ISR.

    signalled -> died          told by the supervisor
    -> detected                the coordinator has fenced every victim
    -> elected                 every partition that a victim led has another leader
    -> recovered               every victim is back in the ISRs of all its partitions

The picture before the kill is the measure, so it is taken when this is made. Looking is by
asking for the image every few ms: the times are that coarse.
"""

from __future__ import annotations

import time

from kcluster.client.control import EXIT_TIMED_OUT, BusClient, ControlClient
from kcluster.client.snapshot import read_image
from kcluster.core.metadata.image import ClusterImage
from kcluster.errors import UsageError
from kcluster.model import COORDINATOR, NO_LEADER
from kcluster.wire import control as c

LOOK_S = 0.002

STAGES = ("detected", "elected", "recovered")


class Failover:
    """The story of one kill."""

    def __init__(self, control: ControlClient, servers: BusClient, victims: list[int]) -> None:
        self._control = control
        self._servers = servers
        self._victims = [id for id in victims if id != COORDINATOR]
        self._has_coordinator = COORDINATOR in victims
        image = self._image()
        self._led: list[tuple[bytes, int]] = []
        self._held: list[tuple[bytes, int, int]] = []
        self._epochs: dict[int, int] = {}
        if image is None:
            return
        self._epochs = {id: image.brokers[id].broker_epoch for id in victims if id in image.brokers}
        for topic in image.topics.values():
            for index, state in topic.partitions.items():
                if state.leader in self._victims:
                    self._led.append((topic.id, index))
                for id in state.replicas:
                    if id in self._victims:
                        self._held.append((topic.id, index, id))

    def wait(self, until: str, moments: list[c.Moment], timeout_ms: int) -> list[c.Moment]:
        """The moments up to `until`, one of STAGES. UsageError (exit 124) when the time is over;
        without victims among the brokers there is nothing to wait for."""
        found: list[c.Moment] = []
        stages = list(STAGES[: STAGES.index(until) + 1]) if self._victims else []
        deadline = time.monotonic() + timeout_ms / 1000
        while stages:
            image = self._image()
            now_ns = time.monotonic_ns()
            while stages and image is not None and self._is_reached(stages[0], image):
                found.append(c.Moment(stages.pop(0), self._victims[0], 0, now_ns))
            if stages and time.monotonic() > deadline:
                reached = found[-1].event if found else "died"
                raise UsageError(
                    f"not {stages[0]} after {timeout_ms} ms",
                    f"it got as far as {reached}",
                    "kcluster status",
                    EXIT_TIMED_OUT,
                )
            time.sleep(LOOK_S)
        return found

    def _image(self) -> ClusterImage | None:
        states = [info.state for info in self._control.describe().processes]
        return read_image(self._servers, states)

    def _is_reached(self, stage: str, image: ClusterImage) -> bool:
        match stage:
            case "detected":
                return all(self._is_out(image, id) for id in self._victims)
            case "elected":
                return all(self._has_other_leader(image, *led) for led in self._led)
            case _:
                return all(self._is_back(image, *held) for held in self._held) and all(
                    image.is_alive(id) for id in self._victims
                )

    def _is_out(self, image: ClusterImage, id: int) -> bool:
        """Fenced, or another incarnation is registered already."""
        broker = image.brokers.get(id)
        return broker is None or broker.is_fenced or broker.broker_epoch != self._epochs.get(id)

    def _has_other_leader(self, image: ClusterImage, topic_id: bytes, index: int) -> bool:
        topic = image.topic_by_id(topic_id)
        if topic is None:
            return True
        leader = topic.partitions[index].leader
        if leader == NO_LEADER:
            return False
        return leader not in self._victims or image.brokers[
            leader
        ].broker_epoch != self._epochs.get(leader)

    def _is_back(self, image: ClusterImage, topic_id: bytes, index: int, id: int) -> bool:
        topic = image.topic_by_id(topic_id)
        return topic is None or id in topic.partitions[index].isr
