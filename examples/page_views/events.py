"""Page views and searches of a site, as its visitors make them: the generator of the example.

A visitor comes by a search engine, a link or directly, reads a few pages of one subject, searches
when they do not find what they want, and leaves. Few pages are read by many (Zipf), few visitors
come often. The same seed gives the same events.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

PAGE_VIEWS = "page-views"
SEARCHES = "searches"

SUBJECTS = {
    "jobs": ["engineer", "designer", "nurse", "teacher", "analyst", "driver", "remote work"],
    "people": ["alumni", "mentors", "recruiters", "founders", "speakers"],
    "learning": ["python", "sql", "statistics", "writing", "negotiation", "cooking"],
    "news": ["markets", "science", "energy", "football", "elections"],
    "groups": ["gardening", "chess", "running", "photography"],
}
REFERRERS = ["direct", "search-engine", "newsletter", "social", "partner"]
DEVICES = ["phone", "phone", "phone", "laptop", "laptop", "tablet"]
COUNTRIES = ["IN", "US", "BR", "GB", "DE", "FR", "NG", "ID", "MX", "JP"]
PAGES_PER_SUBJECT = 40


@dataclass(frozen=True)
class Event:
    topic: str
    key: bytes
    """The user: all events of one user are in one partition, in their order."""
    value: bytes
    """JSON."""


def generate(seed: int, users: int = 1000, run: str = "") -> Iterator[Event]:
    """Without end. `run` tells this one from others with the same seed; it is in every event."""
    chance = random.Random(seed)
    steps_of_user: dict[str, int] = {}
    pages = [
        f"/{subject}/{word.replace(' ', '-')}-{number}"
        for number in range(PAGES_PER_SUBJECT)
        for subject, words in SUBJECTS.items()
        for word in words[: 1 + number % len(words)]
    ]
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(pages))))
    visits: list[Iterator[tuple[str, str, dict[str, object]]]] = []
    numbers = itertools.count()
    time_ms = 1_700_000_000_000
    for number in itertools.count():
        time_ms += chance.randint(1, 40)
        while len(visits) < 50:
            visits.append(_visit(chance, users, pages, weights, next(numbers)))
        index = chance.randrange(len(visits))
        step = next(visits[index], None)
        while step is None:
            visits[index] = _visit(chance, users, pages, weights, next(numbers))
            step = next(visits[index], None)
        topic, user, fields = step
        steps_of_user[user] = steps_of_user.get(user, 0) + 1
        event = {
            "run": run,
            "id": number,
            "time_ms": time_ms,
            "user": user,
            "step": steps_of_user[user],
        }
        yield Event(topic, user.encode(), json.dumps({**event, **fields}).encode())


def _visit(
    chance: random.Random, users: int, pages: list[str], weights: list[float], number: int
) -> Iterator[tuple[str, str, dict[str, object]]]:
    """The events of one visit."""
    user = f"user-{int(users * chance.random() ** 2):05d}"
    visit = {
        "visit": f"{number:08x}",
        "device": chance.choice(DEVICES),
        "country": chance.choice(COUNTRIES),
    }
    referrer = chance.choice(REFERRERS)
    while chance.random() < 0.85:
        page = chance.choices(pages, cum_weights=weights)[0]
        read_ms = int(chance.lognormvariate(9, 1))
        yield PAGE_VIEWS, user, {**visit, "page": page, "referrer": referrer, "read_ms": read_ms}
        referrer = page
        if chance.random() < 0.25:
            subject = page.split("/")[1]
            keyword = chance.choice(SUBJECTS[subject])
            results = int(chance.expovariate(1 / 30))
            yield SEARCHES, user, {**visit, "keyword": keyword, "results": results}
            referrer = "search"
