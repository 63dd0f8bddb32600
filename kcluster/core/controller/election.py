"""Who leads a partition, who is in sync, who is eligible: one pure step from state to state.

Every change of a partition goes through `next_state`. It takes the ISR that is wanted and
answers with the whole new state, in this order:

    0  a reassignment that can be completed is (see `reassignment.py`)
    1  ISR: what is wanted, in the order of the assignment
    2  ELR: while the ISR is smaller than min ISR, whoever was in sync or eligible stays eligible,
       because the high watermark stands still (KIP-966); at min ISR or above it is cleared.
       A replica that came back lossy loses its trust and moves to last_known_elr
    3  leader: kept while it is in the ISR; else the first that can lead of ISR, then of ELR;
       then, where the topic allows it, an unclean one; then the last resort (see below)
    4  epochs: leader_epoch + 1 with every other leader (none is another one too) and whenever a
       replica is taken away: what it has said before must not count when it comes again;
       partition_epoch + 1 with every change

The ISR may run empty: its last member then is in the ELR, which needs min ISR >= 1 (Kafka with
eligible.leader.replicas.version=1 does the same). So "the last member stays in the ISR of a
dead leader" of older Kafkas is never needed, and a broker that is fenced is in no ISR.

Last resort: ISR and ELR are empty only when each who was in them came back lossy. Then nobody
is trusted and nobody may wait for ever: the caller says who leads (most data), `recovering` says
that records may be missing. The others stay in last_known_elr up to min ISR: until the high
watermark can move again, each of them may hold what the leader loses next.

Sources: KIP-966; KIP-497 (partition epoch); KIP-841 (fenced replicas).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from kcluster.core.controller import reassignment
from kcluster.core.controller.reassignment import Assignment
from kcluster.core.metadata.records import PartitionChanged
from kcluster.model import NO_LEADER


class Rules(msgspec.Struct, frozen=True):
    """What holds for one partition at one moment."""

    min_isr: int
    """min.insync.replicas: with fewer, or fewer than all, the high watermark does not move."""
    allows_unclean: bool
    can_lead: Callable[[int], bool]
    """Alive, not shutting down, its log not offline."""
    last_resort: Callable[[list[int]], int] = lambda _: NO_LEADER
    """Asked when ISR and ELR are empty, with those who lost their trust: who leads although
    all lost data, or NO_LEADER."""
    elects: bool = True
    """False at start, before the living have registered: a lost leader is not replaced yet."""


class Outcome(msgspec.Struct, frozen=True):
    state: PartitionChanged
    elected_from: str
    """isr, elr, unclean, lossy, preferred; none: the leader is lost; empty: it is the same."""
    has_completed: bool = False
    """A reassignment."""


def next_state(
    state: PartitionChanged,
    isr: Collection[int],
    rules: Rules,
    *,
    untrusted: Collection[int] = (),
    resigned: int = NO_LEADER,
    preferred: int = NO_LEADER,
    assignment: Assignment | None = None,
) -> Outcome | None:
    """The state that follows, or None when nothing changes.

    `untrusted`: came back lossy, leave ISR and ELR. `resigned`: leads no longer although it is
    in the ISR. `preferred`: leads from now on if it is in the ISR and can. `assignment`: its
    replicas from now on.
    """
    assignment = assignment or reassignment.of(state)
    wanted = [id for id in assignment.replicas if id in isr and id not in untrusted]
    completed = None
    target = assignment.target
    if state.leader in target or (
        rules.elects and any(rules.can_lead(id) for id in wanted if id in target)
    ):
        completed = reassignment.completed(assignment, wanted, rules.min_isr)
    if completed is not None:
        assignment, wanted = completed
    replicas = assignment.replicas
    min_isr = min(rules.min_isr, len(replicas))
    elr, last_known_elr = _eligible(state, replicas, wanted, min_isr, untrusted)
    leader = state.leader
    elected_from = ""
    recovering = state.recovering and len(wanted) < len(replicas)
    if leader not in wanted or leader == resigned:
        leader = NO_LEADER
    if preferred != leader and preferred in wanted and rules.can_lead(preferred):
        leader, elected_from = preferred, "preferred"
    elif leader == NO_LEADER and rules.elects:
        leader, elected_from = _elect(state, assignment, wanted, elr, last_known_elr, rules)
        if elected_from == "elr":
            wanted = [leader]
            elr, last_known_elr = _eligible(state, replicas, wanted, min_isr, untrusted)
        elif elected_from in ("unclean", "lossy"):
            # The new leader's log is the truth now: what others hold beyond it will be cut,
            # so nobody else is known to be complete.
            wanted, elr, recovering = [leader], [], True
            is_asked_again = elected_from == "lossy" and min_isr > 1
            last_known_elr = [id for id in last_known_elr if id != leader and is_asked_again]
    if leader == NO_LEADER and state.leader != NO_LEADER:
        elected_from = "none"
    if leader == state.leader:
        elected_from = ""
    is_new_epoch = leader != state.leader or not set(state.replicas) <= set(replicas)
    after = PartitionChanged(
        topic_id=state.topic_id,
        partition=state.partition,
        replicas=replicas,
        isr=wanted,
        leader=leader,
        leader_epoch=state.leader_epoch + is_new_epoch,
        partition_epoch=state.partition_epoch,
        elr=elr,
        last_known_leader=_last_known_leader(state, leader),
        recovering=recovering,
        last_known_elr=last_known_elr,
        adding=assignment.adding,
        removing=assignment.removing,
    )
    if after == state:
        return None
    after = msgspec.structs.replace(after, partition_epoch=state.partition_epoch + 1)
    return Outcome(after, elected_from, completed is not None)


def _eligible(
    state: PartitionChanged,
    replicas: list[int],
    isr: list[int],
    min_isr: int,
    untrusted: Collection[int],
) -> tuple[list[int], list[int]]:
    """(elr, last_known_elr) beside `isr`."""
    if len(isr) >= min_isr:
        # The high watermark may move again without those outside, so that they may fall behind.
        return [], []
    before = {*state.isr, *state.elr}
    elr = [id for id in replicas if id in before and id not in isr and id not in untrusted]
    known = before | {*state.last_known_elr}
    return elr, [id for id in replicas if id in known and id not in isr and id not in elr]


def _elect(
    state: PartitionChanged,
    assignment: Assignment,
    isr: list[int],
    elr: list[int],
    last_known_elr: list[int],
    rules: Rules,
) -> tuple[int, str]:
    for id in isr:
        if rules.can_lead(id):
            return id, "isr"
    if isr:
        # Those in the ISR are on their way out or back; ELR or unclean would overtake them.
        return NO_LEADER, ""
    for id in elr:
        if rules.can_lead(id):
            return id, "elr"
    if rules.allows_unclean:
        # What a reassignment brings has the least, and may have nothing yet.
        for id in (state.last_known_leader, *assignment.original, *assignment.adding):
            if id in assignment.replicas and rules.can_lead(id):
                return id, "unclean"
    if not elr:
        leader = rules.last_resort(last_known_elr)
        if leader != NO_LEADER:
            assert rules.can_lead(leader), "the last resort must be able to lead"
            return leader, "lossy"
    return NO_LEADER, ""


def _last_known_leader(state: PartitionChanged, leader: int) -> int:
    if leader != NO_LEADER:
        return -1
    return state.leader if state.leader != NO_LEADER else state.last_known_leader
