"""Files under the names that a turn is about to give them."""

from __future__ import annotations

from kcluster.core.turn import Files, Volume


class Renamed:
    """`Files` as they will be once the turn has renamed them."""

    def __init__(self, files: Files, moved: dict[str, str]) -> None:
        self._files = files
        self._moved = moved

    def read(self, path: str, position: int, size: int) -> bytes:
        path = self._moved.get(path, path)
        return self._files.read(path, position, size) if path else b""

    def size(self, path: str) -> int:
        path = self._moved.get(path, path)
        return self._files.size(path) if path else -1

    def list(self, directory: str) -> list[str]:
        return self._files.list(directory)

    def volume(self) -> Volume:
        return self._files.volume()
