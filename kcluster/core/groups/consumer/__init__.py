"""Groups of the consumer protocol: the coordinator decides who reads what (KIP-848).

    heartbeat       the one request of a member: join, stay, say what it owns, leave
    group           the group's state: moved by records alone, at append and when it is loaded
    member          one member as a value, with the states of its reconciliation
    reconcile       one step of a member towards what it is to have
    assignors       who is to have what: uniform, range
    patterns        subscriptions by regular expression
    draft           what was decided: replayed, appended, undone when it cannot be appended
    clocks          sessions and rebalance timeouts
    records         to and from the records of the log
    conversion      from a classic group and back, while it has members
    classic         members of the classic protocol in such a group

Three epochs: the group's rises with every change of who subscribes to what; the target
assignment's says of which change it is the result; each member's says how far it has come. A
partition is given to a member when nobody holds it, so that at any time it has one owner.
"""
