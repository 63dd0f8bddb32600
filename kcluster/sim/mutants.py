"""All mutants: historical bugs, each behind a switch. Put back, a simulation must catch it.

    python -m kcluster.sim.mutants [NAME ...]     seeds until each is caught, and by what
                              --markdown          the same as a table
                              --pin FILE          writes the cheapest seed that catches each

A mutant that no seed catches says that the simulation is too kind, or the invariants too weak:
exit status 1. `BUGS` are the bugs that broke the invariants somewhere; each is one of the mutants
or, with the reason, something that our design cannot express.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from kcluster.check.seen import InvariantViolated
from kcluster.sim.cluster import NotReached, StepLimit
from kcluster.sim.controller_mutants import CONTROLLER_MUTANTS
from kcluster.sim.group_mutants import GROUP_MUTANTS
from kcluster.sim.log_mutants import LOG_MUTANTS
from kcluster.sim.mutant import Mutant
from kcluster.sim.replication_mutants import REPLICATION_MUTANTS
from kcluster.sim.simulation import Simulation

__all__ = ["ALL_MUTANTS", "BUGS", "GROUP_MUTANTS", "INEXPRESSIBLE", "MUTANTS", "Mutant"]

MUTANTS = REPLICATION_MUTANTS | CONTROLLER_MUTANTS | LOG_MUTANTS
ALL_MUTANTS = MUTANTS | GROUP_MUTANTS

STARTS = (1, 1001, 2001)
SEEDS_MAX = 1000

BUGS: dict[int | str, tuple[str, ...]] = {
    1: ("KIP-101", "KAFKA-1211"),
    2: ("KAFKA-7128",),
    3: ("KAFKA-6361", "KIP-279"),
    4: ("KAFKA-13091",),
    5: ("KAFKA-3978", "KAFKA-9491", "KAFKA-9196", "KAFKA-14704"),
    6: ("KAFKA-15583",),
    7: ("KIP-320", "KAFKA-7395", "KAFKA-7164", "KAFKA-13141"),
    8: ("KAFKA-7415", "KAFKA-10706", "KAFKA-10432", "KAFKA-7897", "KAFKA-20961"),
    9: ("KIP-497", "KAFKA-8836", "KAFKA-13916", "KAFKA-14144"),
    10: ("KIP-380", "KIP-903", "KAFKA-7235", "KAFKA-14617", "KAFKA-15221"),
    11: ("KIP-966",),
    14: ("KAFKA-6683", "KAFKA-9892", "KAFKA-12153"),
    15: ("KAFKA-7866", "KAFKA-10778"),
    16: ("KAFKA-9807",),
    17: ("KAFKA-10533", "KAFKA-12460", "KAFKA-13968", "NATS #7556"),
    18: ("KAFKA-3968",),
    19: ("etcd #20418",),
    "rule 2": ("KAFKA-6361",),
}
"""By invariant: what broke it in Kafka and elsewhere."""

INEXPRESSIBLE = {
    "KAFKA-14704": "a follower hears a high watermark with what is pushed, and is pushed nothing "
    "before it has truncated",
    "KAFKA-7897": "there is one message format, and every log has an epoch cache",
    "KAFKA-9807": "the last stable offset is the high watermark as long as there are no "
    "transactions, and one thread reads and moves both",
    "KAFKA-15221": "a position belongs to a stream, and a stream to an incarnation of its "
    "follower: the news of a successor close it before anything is proposed",
    "KAFKA-12460": "the metadata log has one writer and no followers, so that nobody truncates it",
    "KAFKA-13968": "brokers write no snapshots of the metadata",
    "KAFKA-3968": "a core asks for a file to be synced; that its directory is synced, too, is up "
    "to the disk that carries it out, and tested there",
}


@dataclass(frozen=True, slots=True)
class Catch:
    by: str
    """An invariant, a rule, convergence, anomalies."""
    steps: int
    """Of the simulation, until then."""
    detail: str


def catch(mutant: Mutant, seed: int) -> Catch | None:
    """What one simulation with the mutant says; None when it notices nothing."""
    with mutant.applied():
        return _complaint(seed, mutant.groups, mutant.consumer_groups)


@cache
def is_quiet(seed: int, groups: int | None, consumer_groups: int = 0) -> bool:
    """Whether it says nothing without a mutant: else what it says with one says nothing."""
    return _complaint(seed, groups, consumer_groups) is None


def _complaint(seed: int, groups: int | None, consumer_groups: int) -> Catch | None:
    simulation = Simulation(seed, groups=groups, consumer_groups=consumer_groups)
    try:
        story = simulation.run()
    except InvariantViolated as violated:
        number = violated.number
        by = f"invariant {number}" if isinstance(number, int) else number
        detail = str(violated)
    except NotReached as missing:
        by, detail = "convergence", str(missing)
    except StepLimit as limit:
        by, detail = "steps without end", str(limit)
    except TypeError:
        # A mutant that does not fit what it replaces: that catches nothing.
        raise
    except Exception as error:  # A core that a mutant has driven mad.
        by, detail = f"{type(error).__name__} in a core", str(error)
    else:
        surprises = ["a client's surprise"] if story.surprises else []
        by, detail = ", ".join([*story.anomalies.counts, *surprises]), str(story)
    return Catch(by, simulation.cluster.scheduler.steps, detail) if by else None


@dataclass(frozen=True, slots=True)
class Hunt:
    """The seeds from one on, until one caught a mutant."""

    name: str
    seeds: int
    """How many it took."""
    seed: int
    """The last one."""
    catch: Catch | None


def hunt(name: str, start: int, seeds_max: int) -> Hunt:
    for seed in range(start, start + seeds_max):
        mutant = ALL_MUTANTS[name]
        found = catch(mutant, seed)
        if found is not None and is_quiet(seed, mutant.groups, mutant.consumer_groups):
            return Hunt(name, seed - start + 1, seed, found)
    return Hunt(name, seeds_max, start + seeds_max - 1, None)


def hunts(
    names: Sequence[str], starts: Sequence[int], seeds_max: int, processes: int
) -> Iterator[tuple[Mutant, list[Hunt]]]:
    """In the order of the names, each as soon as it is known."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = [
            [pool.submit(hunt, name, start, seeds_max) for start in starts] for name in names
        ]
        for name, futures in zip(names, running, strict=True):
            yield ALL_MUTANTS[name], [future.result() for future in futures]


def _seeds(found: Sequence[Hunt]) -> str:
    """Their median, when all have caught it."""
    if any(each.catch is None for each in found):
        missed = sum(each.catch is None for each in found)
        return f"{missed} of {len(found)} never"
    return f"{median(each.seeds for each in found):g}"


def _by(found: Sequence[Hunt]) -> str:
    return "; ".join(dict.fromkeys(each.catch.by for each in found if each.catch is not None))


def row(mutant: Mutant) -> str:
    """The beginning of its row in a table: what does not depend on seeds."""
    bugs = ", ".join(mutant.bugs) or "-"
    return f"| `{mutant.name}` | {mutant.what} | {mutant.breaks} | {bugs} |"


def reason(bug: str) -> str:
    return f"- {bug}: {INEXPRESSIBLE[bug]}."


def lines(mutant: Mutant, found: Sequence[Hunt], *, is_markdown: bool) -> str:
    if is_markdown:
        return f"{row(mutant)} {_seeds(found)} | {_by(found)} |"
    bugs = ", ".join(mutant.bugs) or "-"
    return f"{mutant.name:32} {_seeds(found):>12}  {mutant.breaks:26} {bugs:24} {_by(found)}"


HEADING = (
    "| mutant | what goes wrong | breaks | was | seeds | caught by |\n"
    "|---|---|---|---|---|---|"
)  # fmt: skip


def pins(found: Iterable[Hunt]) -> dict[str, dict[str, int]]:
    """The seed of each mutant that catches it in the fewest steps."""
    cheapest: dict[str, Hunt] = {}
    for each in found:
        best = cheapest.get(each.name)
        if each.catch is not None and (
            best is None or best.catch is None or each.catch.steps < best.catch.steps
        ):
            cheapest[each.name] = each
    return {
        name: {"seed": each.seed, "steps": each.catch.steps}
        for name, each in sorted(cheapest.items())
        if each.catch is not None
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; all when none is named")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="at most, from each start")
    parser.add_argument("--starts", default=",".join(map(str, STARTS)), help="first seeds")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="as a table")
    parser.add_argument("--details", action="store_true", help="what each catch says")
    parser.add_argument("--pin", type=Path, help="write the seeds for the tests into this file")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in ALL_MUTANTS]
    if unknown:
        parser.error(f"no such mutants: {', '.join(unknown)}")
    starts = [int(start) for start in options.starts.split(",")]
    names = options.names or list(ALL_MUTANTS)
    if options.markdown:
        _say(HEADING)
    everything: list[Hunt] = []
    for mutant, found in hunts(names, starts, options.seeds, options.processes):
        _say(lines(mutant, found, is_markdown=options.markdown))
        if options.details:
            for each in found:
                _say(f"    seed {each.seed}: {each.catch.detail if each.catch else 'nothing'}")
        everything += found
    if options.markdown and not options.names:
        _say("\nWhat our design cannot express:\n")
        for bug in INEXPRESSIBLE:
            _say(reason(bug))
    if options.pin is not None:
        known = json.loads(options.pin.read_text()) if options.pin.exists() else {}
        known = {name: pin for name, pin in known.items() if name in ALL_MUTANTS}
        options.pin.write_text(json.dumps(known | pins(everything), indent=2) + "\n")
    return 0 if all(each.catch is not None for each in everything) else 1


if __name__ == "__main__":
    sys.exit(main())
