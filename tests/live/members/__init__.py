"""Members of a consumer group, one program for each client library.

All take the same options and speak the same lines, so that one judge reads them all
(`tests/live/group_history.py`). A line is a JSON object on standard output with `event` and
`at_ns` (CLOCK_MONOTONIC):

    started                                         the library is about to subscribe
    assigned     partitions, generation             partitions that came; -1: it does not tell
    revoked      partitions                         partitions that went, before they are given up
    lost         partitions                         they went without being asked
    generation   generation                         heard of later than the assignment
    records      runs: [[partition, first, last]]   what one poll brought, offsets inclusive
    committed    offsets: {partition: next}, began_ns
    commit_failed  offsets, error
    error        error                              what the library complained of and went on
    leaving                                         closing: nothing is owned from here on
    stopped                                         the group was left

Offsets are committed after each poll, synchronously; what failed is tried again with the next.
A member leaves cleanly on SIGTERM and when its standard input ends.
"""
