"""Each historical bug, put back, is caught: else a simulation that finds nothing says nothing.

Each by a seed that is known to catch it, if that is quickly done (`KCLUSTER_MUTANTS=1` tries all),
or by the story of its bug.
`make mutants` hunts anew, and writes the seeds down:

    python -m kcluster.sim.mutants --pin tests/sim/mutant_seeds.json
"""

import json
import os
from pathlib import Path

import pytest

from kcluster.sim.cores import make_broker, make_controller
from kcluster.sim.mutants import (
    ALL_MUTANTS,
    BUGS,
    GROUP_MUTANTS,
    INEXPRESSIBLE,
    MUTANTS,
    Catch,
    Hunt,
    catch,
    lines,
    pins,
)
from kcluster.sim.script import Script
from kcluster.sim.simulation import Simulation

IS_THOROUGH = bool(os.environ.get("KCLUSTER_MUTANTS"))
QUICK_STEPS = 20_000
SCRIPTS = Path(__file__).parent.parent / "scripts"
STORIES = {
    "truncates-without-dialogue": "kip-279-an-older-record-behind-a-newer-epoch",
    "joins-below-epoch-start": "bug-joined-below-the-epoch-start",
    "counts-who-diverges": "bug-counted-who-had-to-truncate",
    "shrinks-at-once": "kip-497-the-controller-changes-the-isr",
    "forgets-empty-epochs": "kip-101-what-is-beyond-the-high-watermark-stays",
    "keeps-what-is-refused": "kip-903-who-restarted-is-somebody-else",
    "stale-broker-epoch-joins": "kip-903-who-restarted-is-somebody-else",
    "copies-do-not-wait": "rule-05-duplicate-waits",
    "refuses-after-the-append": "rule-12-too-few-in-sync",
    "opens-in-any-epoch": "kip-320-an-older-epoch-opens-no-stream",
    "rolls-back-what-is-unclear": "bug-rolled-back-what-was-granted",
    "changes-without-compare-and-set": "kip-497-a-wish-of-yesterday",
    "asks-once-where-to-truncate": "bug-followed-this-leader-before",
    "sync-covers-too-much": "invariant-18-a-sync-covers-what-was-there",
    "completes-before-in-sync": "kip-455-replicas-move-when-the-new-ones-are-in-sync",
    "names-the-dead": "rule-09-metadata-waits-for-an-election",
}
"""The story in which a mutant cannot go unnoticed, whatever the seeds are."""
PINS = json.loads((Path(__file__).parent / "mutant_seeds.json").read_text())


def test_every_bug_of_the_table_is_a_mutant_or_cannot_be_one():
    named = {bug for bugs in BUGS.values() for bug in bugs}
    expressed = {bug for mutant in ALL_MUTANTS.values() for bug in mutant.bugs}
    assert not expressed & INEXPRESSIBLE.keys()
    assert named == expressed | INEXPRESSIBLE.keys()


def test_every_rule_of_pushed_streams_has_a_mutant():
    broken = {part.strip() for mutant in ALL_MUTANTS.values() for part in mutant.breaks.split(",")}
    assert {f"rule {number}" for number in range(1, 13)} <= broken


def test_every_invariant_has_a_mutant():
    broken = {part.strip() for mutant in ALL_MUTANTS.values() for part in mutant.breaks.split(",")}
    assert {str(number) for number in range(1, 20)} <= broken


def test_names_can_be_typed_and_are_there_once():
    assert len(ALL_MUTANTS) == len(MUTANTS) + len(GROUP_MUTANTS)
    assert all(name == name.lower() and " " not in name for name in ALL_MUTANTS)


def test_every_mutant_has_a_seed_or_a_story_that_catches_it():
    assert PINS.keys() | STORIES.keys() == ALL_MUTANTS.keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(PINS))
def test_a_mutant_is_caught(name):
    pin = PINS[name]
    if not IS_THOROUGH and pin["steps"] > QUICK_STEPS:
        pytest.skip("takes long until it is caught")
    assert catch(ALL_MUTANTS[name], pin["seed"]) is not None


@pytest.mark.parametrize("name", STORIES)
def test_a_mutant_breaks_the_story_of_its_bug(name):
    story = (SCRIPTS / f"{STORIES[name]}.txt").read_text()
    with ALL_MUTANTS[name].applied():
        try:
            told = Script(make_broker, make_controller).run(story)
        except AssertionError:
            # An invariant, or a claim of the story.
            return
    assert told != story


def test_a_mutant_is_gone_when_it_is_applied_no_longer():
    before = [(p.owner, p.attribute, p.owner.__dict__[p.attribute])
              for mutant in ALL_MUTANTS.values() for p in mutant.patches]  # fmt: skip
    for mutant in ALL_MUTANTS.values():
        with mutant.applied():
            pass
    assert all(owner.__dict__[name] is was for owner, name, was in before)


def test_nothing_is_caught_without_a_mutant():
    assert Simulation(5).run().is_good


def test_a_table_says_the_median_and_what_never_happened():
    mutant = ALL_MUTANTS["shrinks-at-once"]
    hunts = [Hunt(mutant.name, n, n, Catch("invariant 4", 100 * n, "")) for n in (9, 2, 4)]
    assert "| 4 | invariant 4 |" in lines(mutant, hunts, is_markdown=True)
    assert pins(hunts) == {mutant.name: {"seed": 2, "steps": 200}}
    hunts.append(Hunt(mutant.name, 50, 50, None))
    assert "1 of 4 never" in lines(mutant, hunts, is_markdown=False)
