"""One step of a member towards what it is to have.

    lose    what the target has no more: it keeps its epoch until it has given that up
    gain    what the target has, and nobody holds: it enters the target's epoch with it
    wait    for what others still hold, in the target's epoch

A partition that a member has been told to give up stays held by it until it says that it does
not own it any more: nobody else gets it before.

Source: KIP-848; Kafka's CurrentAssignmentBuilder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from kcluster.core.groups.consumer.member import Member, MemberState, Part
from kcluster.errors import ApiError, ErrorCode


def reconcile(
    member: Member,
    target_epoch: int,
    target: frozenset[Part],
    is_free: Callable[[Part], bool],
    owned: Collection[Part] | None,
) -> Member:
    """`owned`: what it says that it owns, None when it does not say; `is_free`: nobody else holds
    it. Raises ApiError FENCED_MEMBER_EPOCH."""
    epoch = member.epoch
    match member.state:
        case MemberState.STABLE if epoch == target_epoch:
            return member
        case MemberState.UNREVOKED_PARTITIONS if _owns_any(owned, member.revoking):
            return member
        case MemberState.UNKNOWN:
            if owned is None or owned:
                raise ApiError(
                    ErrorCode.FENCED_MEMBER_EPOCH,
                    "The member is in a state that is not known here: it must abandon all its "
                    "partitions and rejoin.",
                )
            epoch = target_epoch
        case _:
            pass
    kept = {part: since for part, since in member.assigned.items() if part in target}
    lost = {part: since for part, since in member.assigned.items() if part not in target}
    if lost and _owns_any(owned, lost):
        return _moved(member, epoch, MemberState.UNREVOKED_PARTITIONS, kept, lost)
    missing = sorted(part for part in target if part not in kept)
    free = [part for part in missing if is_free(part)]
    kept.update((part, target_epoch) for part in free)
    waits = len(free) < len(missing)
    state = MemberState.UNRELEASED_PARTITIONS if waits else MemberState.STABLE
    return _moved(member, target_epoch, state, kept, {})


def _owns_any(owned: Collection[Part] | None, parts: Iterable[Part]) -> bool:
    """Who does not say owns them."""
    return owned is None or any(part in owned for part in parts)


def _moved(
    member: Member, epoch: int, state: MemberState, assigned: dict[Part, int], lost: dict[Part, int]
) -> Member:
    return msgspec.structs.replace(
        member,
        epoch=epoch,
        previous_epoch=member.epoch,
        state=state,
        assigned=assigned,
        revoking=lost,
    )
