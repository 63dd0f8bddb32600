"""Imported first by a process that is to start soon; both measured.

Nothing that is imported is garbage: looking for it costs 20 of 150 ms, so the collector rests until
whoever imports this is done and calls `gc.enable()`.

asyncio comes without ssl: nothing here speaks TLS, and loading it takes 17 ms and 3 MB in every
process. asyncio takes a missing ssl module for what it says; whoever imports ssl itself
afterwards gets it.

msgspec comes without typing_extensions, 3 ms: it takes the same functions from typing instead.
"""

import gc
import sys

gc.disable()

if "asyncio" not in sys.modules and "ssl" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]

if "msgspec" not in sys.modules and "typing_extensions" not in sys.modules:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]
