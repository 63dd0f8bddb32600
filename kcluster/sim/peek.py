"""What a checker reads of a log: nothing of the log changes by it."""

from __future__ import annotations

from typing import Any

from kcluster.core.log import reading


def peek(log: Any, start: int, max_bytes: int, end: int) -> bytes:
    """Whole batches from the one at `start` on, below `end` (exclusive); one at least, if there is
    one. Raises CorruptLogError. What the log has not checked yet, or not found to be damaged, it
    comes across by itself."""
    if start >= min(end, log.written_end):
        return b""
    checked = [(segment, segment._checked[:]) for segment in log.chain if segment.unchecked_size]
    try:
        result = reading.locate(log, start, max_bytes, end, at_least_one=True)
    finally:
        for segment, ranges in checked:
            segment._checked = ranges
    return b"".join(log.files.read(span.path, span.position, span.size) for span in result.spans)
