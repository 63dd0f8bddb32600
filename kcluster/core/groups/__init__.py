"""Consumer groups: who is a member, who owns what, and what was consumed.

A group belongs to one partition of `__consumer_offsets`, by the hash of its id; the broker that
leads the partition coordinates the group, and what it must not forget is records of that
partition's log. So a group moves with a leadership, and a new coordinator reads it back.

    coordinator     all partitions of `__consumer_offsets` that this broker leads; finds a group's
    shard           one of them: loads, appends, answers when committed, expires
    settings        what of a broker's configs counts for groups
    group           a classic group (KIP-62): its table of states, members, the choice of a protocol
    joining         who may join, and as what
    rebalance       sync, heartbeat, leave, silence: what moves a group through its states
    offsets         what a group committed: what is durable of it, and what is on its way to be
    commits         commit, fetch and delete offsets
    records         groups and offsets to and from the records of the log
    consumer/       groups whose coordinator assigns, by the consumer protocol (KIP-848)

Decide and replay (rule 7): a decision becomes records; offsets are replayed at append, so that
the next decision sees them, and shown when they are committed. An answer that tells what was
written leaves when the high watermark has passed it. What cannot be appended ends the shard,
which is loaded again by whoever leads.
"""
