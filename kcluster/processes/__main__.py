"""`python -m kcluster.processes`: a supervisor, from its start to its exit.

Its starter (the command line, the library, a test) speaks first, in one line of JSON, and may
have started it ahead of knowing what to say: the imports take longer than parsing a command
line. Then lines go back, as `wire/control.py` says.
"""

from __future__ import annotations

import os
import sys

from kcluster.processes import (
    lean_start,  # noqa: F401 - before anything imports asyncio
    zygote,
)
from kcluster.world import platform


def main() -> int:
    platform.name_process("kc-supervisor")
    if os.environ.get("KCLUSTER_PORTABLE"):
        spawner = zygote.Spawner(None, is_portable=True)
    else:
        spawner = zygote.Spawner.fork(list(zygote.ENTRIES.values()))
    # What only the supervisor needs is imported while the zygote imports the servers' code.
    from kcluster.processes.front import serve  # noqa: PLC0415

    return serve(spawner)


if __name__ == "__main__":
    sys.exit(main())
