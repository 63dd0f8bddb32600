"""A broker process: its data directory, its two listeners and its core, from start to exit."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from kcluster.config import Settings
from kcluster.core.broker.broker import BrokerCore
from kcluster.processes.server import Life, ServerArguments, main_of
from kcluster.processes.survival import restart_kind, told
from kcluster.world import platform
from kcluster.world.kafka_server import KafkaServer


def run(arguments: ServerArguments) -> int:
    platform.name_process(f"kc-broker-{arguments.id}")
    life = Life(arguments)
    data_dir = Path(arguments.data_dir)
    boot_id = platform.boot_id(portable=arguments.is_portable)
    restart = restart_kind(data_dir, boot_id)
    settings = Settings(arguments.options)
    world = life.world
    world.server = KafkaServer(
        arguments.host,
        arguments.port,
        life.loop,
        world.disk,
        request_bytes_max=settings.int("socket.request.max.bytes"),
        queued_bytes_max=settings.int("queued.max.request.bytes"),
        connections_max=settings.int("max.connections"),
        idle_ms=settings.int("connections.max.idle.ms"),
        say=life.say,
    )
    settings.identity = identity(arguments, world.server.port)
    core = BrokerCore(
        arguments.id,
        arguments.incarnation,
        arguments.advertise,
        world.server.port,
        life.endpoint,
        world,
        settings,
        Random(),
        restart,
        arguments.rack or None,
        stopwatch=time.perf_counter_ns,
    )
    server = world.server
    core.status.meter = lambda: (server.meter.read(), len(server.connections))
    life.say(f"broker {arguments.id} starts after a {restart} end, on port {world.server.port}")
    owes_lossy = restart == "lossy"

    def is_done() -> bool:
        nonlocal owes_lossy
        if owes_lossy and core.epoch >= 0:
            owes_lossy = False
            told(data_dir, boot_id)
        return core.has_stopped

    code = life.run(
        core,
        is_done,
        begin=core.start,
        stood_still_ms=settings.int("broker.session.timeout.ms"),
    )
    life.close()
    return code


def identity(arguments: ServerArguments, port: int) -> dict[str, str]:
    """The values of IDENTITY_KNOBS, once the listener has its port."""

    def listener(host: str) -> str:
        # As in a URL: an IPv6 address stands in brackets.
        return f"PLAINTEXT://[{host}]:{port}" if ":" in host else f"PLAINTEXT://{host}:{port}"

    return {
        "advertised.listeners": listener(arguments.advertise),
        "broker.id": str(arguments.id),
        "broker.rack": arguments.rack,
        "listeners": listener(arguments.host),
        "log.dirs": arguments.data_dir,
        "node.id": str(arguments.id),
    }


if __name__ == "__main__":
    main_of(run)
