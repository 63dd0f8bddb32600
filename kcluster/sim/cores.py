"""How the production cores are made in a simulated process."""

from __future__ import annotations

import itertools

from kcluster.config import Settings
from kcluster.core.broker.broker import BrokerCore
from kcluster.core.controller.controller import ControllerCore
from kcluster.core.turn import Core
from kcluster.sim.cluster import Birth

FIRST_PORT = 19092
HANDLING_NS = 100_000
"""What a request takes, to those who have a quota of that."""


SELECTOR = "replica.selector.class"
RACKS = ("red", "blue")
"""Where brokers stand in turn, in clusters that read from followers."""


def rack_of(broker_id: int) -> str:
    return RACKS[broker_id % len(RACKS)]


def make_broker(birth: Birth) -> Core:
    return BrokerCore(
        birth.id,
        birth.incarnation,
        "127.0.0.1",
        FIRST_PORT + birth.id,
        birth.endpoint,
        birth.files,
        Settings(birth.settings),
        birth.random,
        birth.restart,
        rack_of(birth.id) if SELECTOR in birth.settings else None,
        stopwatch=itertools.count(1, HANDLING_NS).__next__,
    )


def make_controller(birth: Birth) -> Core:
    return ControllerCore(
        birth.incarnation,
        birth.files,
        Settings(birth.settings),
        birth.random,
        range(1, birth.brokers + 1),
    )
