"""What a reassignment makes of a partition's replicas, and when it is complete (KIP-455).

    towards     current [1 2 3], wanted [4 2 3]   -->  replicas [4 2 3 1]  adding 4, removing 1
    completed   4 is in the ISR                   -->  replicas [4 2 3]
    cancelled                                     -->  replicas [2 3 1]

While it lasts a partition has the replicas of both: the wanted ones first, so that the preferred
leader is the new one. Min ISR counts all of them.

It is complete once all that are added are in sync; where more go than come, once all that stay
are (Kafka 4.3). Ours asks for more: what stays in sync must be min ISR. Kafka may complete with
less, and then the only sound copies of what is committed may be those that it deletes. For the
same reason a cancellation is refused that would take members of the ISR or of the ELR away and
leave less than min ISR (Kafka refuses only what leaves nobody), unless unclean elections are
allowed.

A replica that one reassignment adds and the next one still wants stays one that is added; Kafka
forgets that it was, and a cancellation then keeps it.

Sources: KIP-455; Kafka's PartitionReassignmentReplicas, PartitionReassignmentRevert.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kcluster.core.metadata.records import PartitionChanged


class Assignment(msgspec.Struct, frozen=True):
    """The replicas of a partition. Invariant: adding and removing are disjoint subsets."""

    replicas: list[int]
    adding: list[int]
    removing: list[int]

    @property
    def target(self) -> list[int]:
        return [id for id in self.replicas if id not in self.removing]

    @property
    def original(self) -> list[int]:
        """What a cancellation goes back to, in the order that is left of it."""
        return [id for id in self.replicas if id not in self.adding]


def of(state: PartitionChanged) -> Assignment:
    return Assignment(state.replicas, state.adding, state.removing)


def towards(state: PartitionChanged, target: Sequence[int]) -> Assignment:
    """The wanted replicas, in their order, and those that are there."""
    original = of(state).original
    removing = sorted(set(state.replicas) - set(target))
    adding = sorted(set(target) - set(original))
    return Assignment([*target, *removing], adding, removing)


def completed(
    assignment: Assignment, isr: Sequence[int], min_isr: int
) -> tuple[Assignment, list[int]] | None:
    """What is left of the assignment and of the ISR, or None while it lasts, or where nothing is
    reassigned. `min_isr` is min.insync.replicas."""
    if not (assignment.adding or assignment.removing):
        return None
    target = assignment.target
    staying = [id for id in isr if id in target]
    awaited = assignment.adding
    if len(awaited) < len(assignment.removing):
        awaited = target
    if not set(awaited) <= set(staying) or len(staying) < max(1, min(min_isr, len(target))):
        return None
    return Assignment(target, [], []), staying


def is_needed(state: PartitionChanged, min_isr: int) -> bool:
    """Whether what a cancellation would take away may be the only sound copy of what is
    committed."""
    original = of(state).original
    trusted = {*state.isr, *state.elr, *state.last_known_elr}
    staying = [id for id in state.isr if id in original]
    return not trusted.isdisjoint(state.adding) and len(staying) < min(min_isr, len(original))
