"""Files of one process (being written)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcluster.core.turn import DiskOperation, Synced


class RealDisk:
    def __init__(
        self,
        root: str,
        *,
        call_in_loop: Callable[..., Any] | None = None,
        open_files_max: int = 1000,
    ) -> None:
        """Paths are relative to `root`. `call_in_loop` is `loop.call_soon_threadsafe`; without
        it a `Sync` is carried out at once."""
        self.root = root
        self.on_synced: Callable[[Synced], None] | None = None

    def read(self, path: str, position: int, size: int) -> bytes:
        raise NotImplementedError

    def size(self, path: str) -> int:
        raise NotImplementedError

    def list(self, directory: str) -> list[str]:
        raise NotImplementedError

    def perform(self, operation: DiskOperation) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
