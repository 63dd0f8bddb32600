"""A historical bug, put back: functions of ours are others while it is applied.

with mutant.applied(): Simulation(seed).run()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Patch:
    owner: Any
    """A class or a module."""
    attribute: str
    change: Callable[[Any], Any]
    """What the attribute becomes, from what it was."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        was = self.owner.__dict__[self.attribute]
        setattr(self.owner, self.attribute, self.change(was))
        try:
            yield
        finally:
            setattr(self.owner, self.attribute, was)


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    """What a person types: words with hyphens."""
    what: str
    """What goes wrong, in a sentence."""
    breaks: str
    """Numbers in the table of invariants, rules, anomalies; as they are said to a person."""
    bugs: tuple[str, ...]
    """The bugs that it was somewhere; empty for one of our own."""
    patches: tuple[Patch, ...]
    groups: int | None = None
    """How many groups a simulation shall have; None: as its seed draws."""
    consumer_groups: int = 0
    """Groups of the consumer protocol, besides."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch.applied())
            yield


def patch(owner: Any, attribute: str, change: Callable[[Any], Any]) -> tuple[Patch]:
    """Of a mutant that needs no more than one."""
    return (Patch(owner, attribute, change),)


def always(value: Any) -> Callable[[Any], Any]:
    """A function that answers `value`, whatever it is asked."""
    return lambda was: lambda *_, **__: value


def always_property(value: Any) -> Callable[[Any], Any]:
    return lambda was: property(lambda self: value)


def by_name(*mutants: Mutant) -> dict[str, Mutant]:
    found = {mutant.name: mutant for mutant in mutants}
    assert len(found) == len(mutants), "two mutants of one name"
    return found
