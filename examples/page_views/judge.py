"""Puts together what all members of the group recorded, and says whether anything is missing.

    python examples/page_views/consumer.py --record seen      in some terminals, then Ctrl-C
    python examples/page_views/judge.py seen

Must hold, whatever was killed meanwhile:

    complete    each user's steps are 1, 2, 3... without a gap, over all members together
    in order    within one assignment of a partition, offsets rise one by one
    agreeing    an offset holds the same event for everybody
    repeated    an event that came twice did so in different assignments: redelivered after a
                rebalance, as at-least-once allows. They are counted, not condemned.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Verdict:
    events: int = 0
    """Different ones."""
    repeated: int = 0
    members: int = 0
    users: int = 0
    problems: list[str] = field(default_factory=list)


def judge(directory: Path) -> Verdict:
    verdict = Verdict()
    times: Counter[tuple[str, int, int]] = Counter()
    events: dict[tuple[str, int, int], tuple[str, int]] = {}
    for path in sorted(directory.glob("*.jsonl")):
        verdict.members += 1
        last: dict[tuple[int, str, int], int] = {}
        for line in path.read_text().splitlines():
            assignment, topic, partition, offset, user, step = json.loads(line)
            before = last.get((assignment, topic, partition))
            if before is not None and offset != before + 1:
                verdict.problems.append(
                    f"{path.name}: {topic}-{partition} offset {offset} came after {before}"
                )
            last[assignment, topic, partition] = offset
            place = topic, partition, offset
            times[place] += 1
            if events.setdefault(place, (user, step)) != (user, step):
                verdict.problems.append(f"{path.name}: {place} is not what others were given")
    steps: dict[str, list[int]] = {}
    for user, step in events.values():
        steps.setdefault(user, []).append(step)
    for user, taken in sorted(steps.items()):
        if sorted(taken) != list(range(1, len(taken) + 1)):
            missing = sorted(set(range(1, max(taken) + 1)) - set(taken))
            verdict.problems.append(f"{user}: steps {missing[:5]} missing, or some came doubly")
    verdict.events = len(events)
    verdict.repeated = times.total() - len(events)
    verdict.users = len(steps)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    verdict = judge(options.directory)
    print(
        f"{verdict.events:,} events of {verdict.users:,} users, by {verdict.members} members,"
        f" {verdict.repeated:,} repeated after a rebalance"
    )
    for problem in verdict.problems[:10]:
        print(problem, file=sys.stderr)
    print(f"{len(verdict.problems)} problems" if verdict.problems else "nothing is missing")
    return 1 if verdict.problems or not verdict.events else 0


if __name__ == "__main__":
    sys.exit(main())
