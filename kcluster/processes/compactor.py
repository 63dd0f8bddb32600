"""A compactor process: one job of one broker, from its file to its outcome's, and out.

It reads segments that nobody writes any more and makes new files beside them; what becomes of
these is the broker's to say. It holds no lock and no socket, gives way to whoever serves
clients, and may be killed at any point.
"""

from __future__ import annotations

import os

from kcluster.core.log.compaction.cleaning import carry_out
from kcluster.core.turn import Synced
from kcluster.errors import DiskError
from kcluster.processes.server import ServerArguments, main_of
from kcluster.world import platform
from kcluster.world.disk import RealDisk

EXIT_ORPHANED = 1

WORK_S = 0.0001
REST_S = 0.00002
"""A small part of what a produced batch takes from client to client, and just enough to let
somebody else begin."""


def run(arguments: ServerArguments) -> int:
    platform.name_process(f"kc-compact-{arguments.id}")
    platform.give_way()
    disk = RealDisk(arguments.data_dir, portable=arguments.is_portable)
    disk.on_synced = _synced
    supervisor = arguments.supervisor.pid
    with platform.in_slices(WORK_S, REST_S):
        for operation in carry_out(disk):
            if os.getppid() != supervisor:
                # Where the kernel does not end it, it does so itself.
                return EXIT_ORPHANED
            errno = disk.perform(operation)
            if errno:
                path = getattr(operation, "path", "")
                raise DiskError(errno, path, type(operation).__name__.lower())
    disk.close()
    return 0


def _synced(event: Synced) -> None:
    """At once, because there is no loop to wait in."""
    if event.errno:
        raise DiskError(event.errno, event.path, "sync")


if __name__ == "__main__":
    main_of(run)
