"""Compaction: of each key, the log keeps the last record.

    plan      broker      which log is dirty enough, and which of its segments    -> Job
    clean     compactor   reads them, writes `*.cleaned`                          -> Outcome
    swap      broker      puts `*.cleaned` in the place of what they were made of

Offsets have no gaps, not even here. Batches that lose some records keep their bounds, as Kafka's
do; those that lose all become *empty batches*: one header for a whole run of them, within one
leader epoch. Kafka keeps the last batch of a producer that way, and every client skips it. So
all that is checked about a log (offsets follow each other, no segment is missing) is checked of
a compacted one, too.

    before   [k1 k2] [k1 k3] [k2] [k2 k1] | ...        after   [----- empty -----] [k2 k1] | ...
              0   1   2   3   4    5  6                          0               4   5  6

What a producer appended last stays too, as empty batches with its id and sequences, so that
producer state rebuilt from the log is what it was (invariant 14). Each replica compacts its own
log, below its own high watermark; what replicas hold at an offset is the same record or none.

Sources: Kafka's LogCleaner and Cleaner, KIP-354 (max.compaction.lag.ms), KIP-534 (tombstones).
"""
