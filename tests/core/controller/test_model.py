"""Any order of deaths, restarts, ISR changes and coordinator restarts keeps what was committed.

The model knows which replica holds which committed generation. A generation is committed when
the ISR is at min or above and all of it lives; then its members hold it. A lossy restart loses
everything. After each step, what invariants 2, 9, 10, 11 and 17 say must hold in the committed
image: above all that everybody who may lead holds all that was committed, unless the election
said itself that records may be missing.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.core.controller.controller import LEADERS_RETURN_MOST_MS
from kcluster.core.metadata.records import PartitionChanged

from .playbook import Playbook

BROKERS = (1, 2, 3)
IDS = st.sampled_from(BROKERS)
STEPS = st.one_of(
    st.tuples(st.just("die"), IDS),
    st.tuples(st.just("die"), IDS),
    st.tuples(st.just("join"), IDS, st.sampled_from(["clean", "crash", "crash", "lossy"])),
    st.tuples(st.just("register"), IDS, st.sampled_from(["clean", "crash", "lossy"])),
    st.tuples(st.just("heartbeat"), IDS),
    st.tuples(st.just("shrink"), IDS),
    st.tuples(st.just("grow"), IDS),
    st.tuples(st.just("grow"), IDS),
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("shut down"), IDS),
    st.tuples(st.just("time"), st.sampled_from([10, 250, 1100, 2500])),
    st.tuples(st.just("coordinator")),
)


class Model:
    def __init__(self, min_isr: int) -> None:
        self.min_isr = min_isr
        self.p = Playbook()
        self.p.join(*BROKERS)
        self.p.make_topic("t", [1, 2, 3], configs={"min.insync.replicas": str(min_isr)})
        self.running = set(BROKERS)
        self.committed = 0
        self.holds = dict.fromkeys(BROKERS, 0)
        self.before = self.state

    @property
    def state(self) -> PartitionChanged:
        return self.p.partition()

    def step(self, kind: str, *arguments: object) -> None:
        p, state = self.p, self.state
        match kind, *arguments:
            case "die", int(id):
                self.running.discard(id)
                p.die(id)
            case (("join" | "register"), int(id), str(restart)):
                if restart == "lossy":
                    self.holds[id] = -1
                self.running.add(id)
                p.register(id, restart=restart)
                if kind == "join":
                    p.heartbeat(id)
            case "heartbeat", int(id) if id in self.running:
                p.heartbeat(id)
            case "shrink", int(id) if state.leader in self.running and id != state.leader:
                if id in state.isr:
                    p.alter(state.leader, [other for other in state.isr if other != id])
            case "grow", int(id) if state.leader in self.running and id in self.running:
                if id not in state.isr:
                    caught_up = self.holds[id]
                    self.holds[id] = self.holds[state.leader]
                    if p.alter(state.leader, sorted([*state.isr, id])).error:
                        self.holds[id] = caught_up
            case ("commit",):
                live = self.running >= set(state.isr)
                if state.leader in self.running and live and len(state.isr) >= self.min_isr:
                    self.committed += 1
                    for id in state.isr:
                        self.holds[id] = self.committed
            case "shut down", int(id) if id in self.running:
                p.heartbeat(id, wants_shutdown=True)
            case "time", int(ms):
                p.pass_time(ms)
            case ("coordinator",):
                again = Playbook(disk=p.disk, incarnation=p.core.incarnation + 1)
                again.epochs, again.incarnations = p.epochs, p.incarnations
                again.now_ms = p.now_ms
                assert again.image.records() == p.image.records()
                self.p = again
            case _:
                pass
        self.check()

    def check(self) -> None:
        before, state = self.before, self.state
        self.before = state
        image = self.p.image
        isr, elr, known = set(state.isr), set(state.elr), set(state.last_known_elr)
        assert isr | elr | known <= set(state.replicas)
        assert not isr & elr and not (isr | elr) & known
        assert state.leader == -1 or state.leader in isr
        assert state.leader == -1 or image.is_alive(state.leader)
        assert isr or elr or known, "somebody is always a candidate, or was"
        if not self.p.core.partitions.is_starting:
            assert all(image.is_alive(id) for id in isr), "a fenced broker is in no ISR"
        if len(isr) >= self.min_isr:
            assert not elr and not known
        assert state.leader_epoch >= before.leader_epoch
        assert state.partition_epoch >= before.partition_epoch
        if state != before:
            assert state.partition_epoch > before.partition_epoch
        if state.leader != before.leader:
            assert state.leader_epoch > before.leader_epoch
        if state.recovering and not before.recovering and state.leader != -1:
            self.committed = self.holds[state.leader]  # said to be missing
        if not state.recovering:
            for id in sorted(isr | elr):
                assert self.holds[id] >= self.committed, f"{id} may lead and lacks records"


@settings(max_examples=150)
@given(steps=st.lists(STEPS, max_size=40), min_isr=st.sampled_from([1, 2]))
def test_everybody_who_may_lead_holds_all_that_was_committed(
    steps: list[tuple[object, ...]], min_isr: int
) -> None:
    model = Model(min_isr)
    for kind, *arguments in steps:
        model.step(str(kind), *arguments)


@settings(max_examples=100)
@given(steps=st.lists(STEPS, max_size=30), min_isr=st.sampled_from([1, 2]))
def test_when_all_come_back_somebody_leads_and_the_isr_fills(
    steps: list[tuple[object, ...]], min_isr: int
) -> None:
    """Liveness (C5): no state of the metadata is a dead end."""
    model = Model(min_isr)
    for kind, *arguments in steps:
        model.step(str(kind), *arguments)
    p = model.p
    for id in BROKERS:
        p.register(id)
    for _ in range(3):
        p.heartbeats()
        for id in sorted(p.core.partitions.unreported()):
            p.register(id, p.incarnations[id])
        p.pass_time(300)
    state = p.partition()
    assert state.leader != -1
    assert p.alter(state.leader, list(BROKERS)).error == 0
    assert p.partition().isr == list(BROKERS)
    p.live(LEADERS_RETURN_MOST_MS)
    assert p.partition().leader == 1, "the preferred leader leads again"


def test_same_events_give_the_same_messages() -> None:
    def run() -> list[object]:
        model = Model(2)
        for step in (("die", 1), ("join", 1, "crash"), ("grow", 1), ("time", 2500)):
            model.step(*step)
        return [*model.p.sent, *model.p.traces]

    assert run() == run()
