"""Writing a function as text: indented lines, fresh names, and the objects that they refer to.

Decoders and encoders are generated once for each message class and version, whole: structs are
written out in place, runs of fixed-size fields become one call of one `struct.Struct`. The
text depends only on our own class definitions, never on input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Source:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        """Globals of the function."""
        self._depth = 1
        self._fresh = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, opening: str) -> Iterator[None]:
        self.line(opening)
        self._depth += 1
        yield
        self._depth -= 1

    def fresh(self, stem: str) -> str:
        """A name that nothing else in this function has."""
        self._fresh += 1
        return f"{stem}_{self._fresh}"

    def refer(self, stem: str, value: Any) -> str:
        """A name for `value`; the same one for the same object."""
        for name, known in self.names.items():
            if known is value:
                return name
        name = self.fresh(stem)
        self.names[name] = value
        return name

    def layout(self, codes: str, method: str) -> str:
        """A name for `Struct(codes).unpack_from` or `.pack`."""
        name = f"{method}_{codes.replace('?', 'o')}"
        if name not in self.names:
            self.names[name] = getattr(struct.Struct(">" + codes), method)
        return name

    def function(self, head: str, filename: str) -> Callable[..., Any]:
        text = "\n".join([head, *self.lines, ""])
        name = head.removeprefix("def ").partition("(")[0]
        exec(compile(text, filename, "exec"), self.names)
        function: Callable[..., Any] = self.names[name]
        return function
