"""How the production cores are made in a simulated process."""

from __future__ import annotations

from kcluster.config import Settings
from kcluster.core.broker.broker import BrokerCore
from kcluster.core.controller.controller import ControllerCore
from kcluster.core.turn import Core
from kcluster.sim.cluster import Birth

FIRST_PORT = 19092


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
    )


def make_controller(birth: Birth) -> Core:
    return ControllerCore(
        birth.incarnation,
        birth.files,
        Settings(birth.settings),
        birth.random,
        range(1, birth.brokers + 1),
    )
