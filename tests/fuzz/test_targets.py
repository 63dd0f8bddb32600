"""Each fuzz target survives its seeds, what searches kept, whatever ever crashed, and a short
search of its own: valid bytes with a few damages."""

from __future__ import annotations

import importlib
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import crashes, inputs
from tests.fuzz.inputs import Reader, Writer
from tests.fuzz.mutations import DAMAGES, damaged
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import INPUT_BYTES, TARGETS, run_target

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
"""Of each target; a longer search is `make fuzz`."""
TRACED_BYTES_MAX = 48 << 20
"""Python's own peak while all known inputs of a target run: a decompressed batch may take 8 MiB
whatever its size, and twice that while its buffer grows."""

BY_NAME = pytest.mark.parametrize("target", sorted(TARGETS))
SHARE = st.integers(0, 65535)


def test_every_target_has_seeds_and_seeds_are_of_a_target() -> None:
    assert SEEDS.keys() == TARGETS.keys()
    for target, seeds in SEEDS.items():
        assert all(len(seed) <= INPUT_BYTES for seed in seeds()), target


@BY_NAME
def test_target_survives_all_known_inputs_within_its_memory(target: str) -> None:
    found = list(inputs(target))
    for data in found:
        run_target(target, data)
    tracemalloc.start()
    try:
        for data in found[::5]:
            run_target(target, data)
        assert tracemalloc.get_traced_memory()[1] < TRACED_BYTES_MAX
    finally:
        tracemalloc.stop()


@BY_NAME
def test_target_survives_damages(target: str) -> None:
    seeds = [seed for seed in inputs(target) if len(seed) <= INPUT_BYTES]

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(seeds),
        st.lists(st.tuples(st.sampled_from(sorted(DAMAGES)), SHARE, SHARE), max_size=6),
        st.sampled_from(seeds),
    )
    def search(seed: bytes, damages: list[tuple[str, int, int]], other: bytes) -> None:
        run_target(target, damaged(seed, damages, other)[:INPUT_BYTES])

    search()


@given(st.binary(max_size=300))
@settings(max_examples=30)
def test_any_bytes_at_all_mean_something_to_every_target(data: bytes) -> None:
    for target in TARGETS:
        if target != "broker":
            run_target(target, data)


def test_a_crash_that_was_kept_is_named_by_its_target() -> None:
    directory = Path(__file__).parent / "crashes"
    kept = {path.name for path in directory.iterdir()} if directory.exists() else set()
    assert kept <= TARGETS.keys()
    assert all(data for target in kept for _, data in crashes(target))


def test_targets_need_no_atheris() -> None:
    importlib.import_module("tests.fuzz.run")
    assert "atheris" not in sys.modules


@given(st.lists(st.integers(0, 255), max_size=4), st.lists(st.binary(max_size=40), max_size=4))
@settings(max_examples=50)
def test_an_input_is_read_as_it_was_written(numbers: list[int], parts: list[bytes]) -> None:
    writer = Writer()
    for number in numbers:
        writer.number(number)
    for part in parts:
        writer.part(part)
    reader = Reader(writer.rest(b"rest"))
    assert [reader.number() for _ in numbers] == numbers
    assert [reader.part() for _ in parts] == parts
    assert reader.rest() == b"rest"
    assert (reader.number(), reader.part(), reader.rest()) == (0, b"", b"")


def test_an_input_that_takes_too_long_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import targets

    monkeypatch.setattr(targets, "CPU_SECONDS", -1.0)
    with pytest.raises(targets.TooSlow):
        run_target("small_file", b"")
