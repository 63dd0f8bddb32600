"""Events made of traces and of what the supervisor does."""

from __future__ import annotations

import pytest

from kcluster.core import traces as t
from kcluster.model import COORDINATOR
from kcluster.processes.chronicle import Chronicle, in_words
from kcluster.wire.events import TYPES, ClusterEvent


def chronicle() -> tuple[Chronicle, list[ClusterEvent]]:
    kept: list[ClusterEvent] = []
    return Chronicle(7, kept.extend), kept


def test_an_isr_change_is_told_once_by_who_decides_it() -> None:
    told, kept = chronicle()
    shrunk = t.IsrShrunk("orders", 0, [1, 2, 3], [1, 2], "died")
    told.heard(COORDINATOR, 4, 1000, 5_000_000, [shrunk])
    told.heard(1, 5, 1001, 6_000_000, [shrunk, t.SegmentRolled("orders", 0, 12)])
    assert [event.seq for event in kept] == [7, 8]
    isr, segment = kept
    assert (isr.type, isr.subject, isr.text) == ("isr", "orders-0", "{1,2,3} → {1,2}, died")
    assert isr.fields == {"before": [1, 2, 3], "isr": [1, 2], "cause": "died"}
    assert (isr.process, isr.incarnation, isr.at_ms, isr.monotonic_ns) == (0, 4, 1000, 5_000_000)
    assert (segment.type, segment.process, segment.partition) == ("segment", 1, 0)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("isr", "leader 3 → 1, epoch 5"),
        ("elr", "leader 3 → 1, epoch 5, from the ELR"),
        ("preferred", "leader 3 → 1, epoch 5, the preferred one"),
        ("lossy", "leader 3 → 1, epoch 5, the most that is left: records may be missing"),
    ],
)
def test_an_election_says_who_led_and_where_the_leader_is_from(source: str, text: str) -> None:
    assert in_words(t.Elected("orders", 0, 3, 1, 5, source)) == ("election", text)


def test_nobody_leads() -> None:
    assert in_words(t.Elected("orders", 0, 3, -1, 5, "none")) == (
        "election",
        "leader 3 → none, epoch 5",
    )


def test_each_trace_has_a_type_and_words() -> None:
    examples = {"list[int]": [1], "str": "x", "int": 1}
    for kind in t.Trace.__subclasses__():
        types = kind.__annotations__.items()
        told = in_words(kind(**{name: examples[annotation] for name, annotation in types}))
        assert told is not None, kind
        type, text = told
        assert type in TYPES
        assert text


def test_traces_survive_their_way_to_the_supervisor() -> None:
    traces = [t.Warned("a"), t.Elected("orders", 0, 3, 1, 5, "isr")]
    assert t.decode(t.encode(traces)) == traces


def test_a_partition_of_groups_is_not_taken_for_one_of_a_topic() -> None:
    told, kept = chronicle()
    told.heard(2, 4, 1000, 1, [t.GroupsLoaded(3, 1, 2), t.GroupsLoaded(4, 0, 0)])
    [event] = kept
    assert (event.partition, event.topic, event.subject) == (-1, "", "broker 2")


def test_what_is_done_to_a_process_is_about_it() -> None:
    told, kept = chronicle()
    told.did("chaos", "Signalled", "SIGKILL sent", broker=0, incarnation=3, at_ms=1, monotonic_ns=2)
    assert kept[0].subject == "coordinator"
    assert kept[0].process == -1
