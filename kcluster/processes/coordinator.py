"""The coordinator process: the controller's core in a real world, from its start to its exit."""

from __future__ import annotations

from random import Random

from kcluster.config import Settings
from kcluster.core.controller.controller import ControllerCore
from kcluster.processes.server import Life, ServerArguments, main_of
from kcluster.world import platform


def run(arguments: ServerArguments) -> int:
    platform.name_process("kc-coordinator")
    life = Life(arguments)
    settings = Settings(arguments.options)
    core = ControllerCore(
        arguments.incarnation,
        life.world,
        settings,
        Random(),
        arguments.expected_brokers,
    )
    code = life.run(
        core,
        lambda: core.has_stopped,
        begin=lambda turn: None,  # the first turn loads the log, whatever it is for
        stood_still_ms=settings.int("broker.session.timeout.ms"),
    )
    life.close()
    return code


if __name__ == "__main__":
    main_of(run)
