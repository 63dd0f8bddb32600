"""The features of this release, with the levels that each may have (KIP-584).

A feature that is named here is advertised, and clients act on it, so it comes in with what it
promises and not before. Kafka's own are left out for that reason: `group.version` and
`transaction.version` speak of protocols that are not there yet, and `metadata.version` of KRaft's
records, which ours are not.
"""

from __future__ import annotations

SUPPORTED: dict[str, tuple[int, int]] = {}
"""Name to (lowest, highest) level. Level 0 is "not used"."""
