"""Regular expressions that members subscribe by: which topics they match.

RE2's syntax and RE2 itself, as Kafka's coordinator has it: it takes time that is linear in the
length of what it reads, whatever the pattern. A topic's whole name must match. The library is
imported with the first pattern: most brokers never see one.

Source: KIP-848 (SubscribedTopicRegex); Kafka's TopicRegexResolver.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from kcluster.errors import ApiError, ErrorCode

PATTERNS_MAX: Final = 100
"""Different ones of one group: all are held against all topics when some come or go."""

PATTERN_CHARS: Final = 2_000
PATTERN_MEMORY_BYTES: Final = 1 << 20
"""Of one compiled pattern; RE2 refuses what takes more."""


def check(pattern: str, known: Collection[str]) -> None:
    """Whether a group may have it beside those that it has. Raises ApiError
    INVALID_REGULAR_EXPRESSION."""
    _compile(pattern)
    if pattern not in known and len(known) >= PATTERNS_MAX:
        raise _refusal(pattern, f"the group has {PATTERNS_MAX} others already")


def resolve(pattern: str, topics: Iterable[str]) -> tuple[str, ...]:
    """Those that match, sorted. Raises ApiError, as `check`."""
    compiled = _compile(pattern)
    return tuple(sorted(topic for topic in topics if compiled.fullmatch(topic) is not None))


def _compile(pattern: str) -> Any:
    import re2  # noqa: PLC0415 - see above

    problem = f"longer than {PATTERN_CHARS} characters"
    if len(pattern) <= PATTERN_CHARS:
        options = re2.Options()
        options.max_mem = PATTERN_MEMORY_BYTES
        options.log_errors = False
        try:
            return re2.compile(pattern, options)
        except (re2.error, UnicodeError) as error:
            problem = _words(error)
    raise _refusal(pattern, problem)


def _refusal(pattern: str, problem: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_REGULAR_EXPRESSION,
        f"SubscribedTopicRegex `{pattern[:100]}` cannot be used: {problem}.",
    )


def _words(error: Exception) -> str:
    [text] = error.args[:1] or [error]
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
