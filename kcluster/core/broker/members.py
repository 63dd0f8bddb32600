"""Who else is in the cluster, and who of them lives: what this broker has heard by any way.

The image tells who is registered, and the supervisor tells of deaths before the controller has
fenced the dead. Incarnations rise, so that the highest one heard of makes everything from a
lower one a message of the dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.turn import Received, Turn
from kcluster.model import COORDINATOR
from kcluster.wire import bus

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore


class Members:
    """`Membership` to the leaders."""

    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self._incarnations: dict[int, int] = {}
        """Highest that was heard of, by bus address."""
        self._dead: dict[int, int] = {}
        """Highest incarnation that is known to have ended, by broker."""

    def is_dead(self, broker_id: int) -> bool:
        """Its process, as far as the image names it, is known to have ended."""
        member = self._broker.image.brokers.get(broker_id)
        return member is not None and self._dead.get(broker_id, -1) >= member.incarnation

    def has_dead(self) -> bool:
        return any(self.is_dead(id) for id in self._dead)

    # --- as leaders ask -------------------------------------------------------------------

    def epoch_of(self, broker_id: int, incarnation: int) -> int:
        member = self._broker.image.brokers.get(broker_id)
        if (
            member is None
            or member.incarnation != incarnation
            or member.is_fenced
            or member.is_shutting_down
            or self._dead.get(broker_id, -1) >= incarnation
        ):
            return -1
        return member.broker_epoch

    def registered_epoch(self, broker_id: int) -> int:
        member = self._broker.image.brokers.get(broker_id)
        return member.broker_epoch if member is not None else -1

    # --- news -----------------------------------------------------------------------------

    def is_of_the_living(self, event: Received, turn: Turn) -> bool:
        """False for what the dead sent before they died (see `wire/bus.py`)."""
        source = event.source
        if source < COORDINATOR:
            return True
        known = self._incarnations.get(source, 0)
        if event.source_epoch < known or event.source_epoch <= self._dead.get(source, -1):
            return False
        if event.source_epoch > known:
            self._incarnations[source] = event.source_epoch
            if source == COORDINATOR and known:
                # It has started anew and waits to hear of us.
                self._broker.channel.heartbeat(turn, self._broker.image.next_offset)
        return True

    def announced(self, message: bus.Announce, received: Received, turn: Turn) -> None:
        for process in message.processes:
            known = self._incarnations.get(process.id, 0)
            if process.incarnation > known:
                self._incarnations[process.id] = process.incarnation
                if process.id == COORDINATOR and self._broker.has_started:
                    if self._broker.epoch >= 0:
                        self._broker.channel.heartbeat(turn, self._broker.image.next_offset)
                    else:
                        self._broker.channel.register(turn)

    def died(self, message: bus.Died, received: Received, turn: Turn) -> None:
        """Rule 6: it names an incarnation; a later one is not meant."""
        id, incarnation = message.id, message.incarnation
        if id == self._broker.broker_id or incarnation <= self._dead.get(id, -1):
            return
        self._dead[id] = incarnation
        if id == COORDINATOR:
            return
        peer = self._broker.outgoing.peers.get(id)
        if peer is not None and peer.incarnation <= incarnation:
            self._broker.outgoing.drop_peer(id)
        if self._incarnations.get(id, 0) <= incarnation:
            self._broker.incoming.leader_died(id, turn)

    def changed(self, brokers: set[int]) -> None:
        """The image has news of these."""
        outgoing = self._broker.outgoing
        for id in sorted(brokers):
            member = self._broker.image.brokers.get(id)
            if member is None:
                continue
            if member.incarnation > self._incarnations.get(id, 0):
                self._incarnations[id] = member.incarnation
            peer = outgoing.peers.get(id)
            if peer is not None and peer.incarnation < member.incarnation:
                outgoing.drop_peer(id)
