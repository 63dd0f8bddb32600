"""kcluster: a real, replicated, Kafka-compatible log cluster on one machine, meant to be broken.

The rooms, from the top; imports go one way, downwards:

    cli         commands, one file per noun; `output` is the only printer
    tui         the screen: a view model, and pictures made of it
    chaos bench kill, load and judge a cluster; measure any
    processes   the life of each process: supervisor, zygote, coordinator, broker
    client      our own small client, control (what the supervisor takes and tells), and watch:
                the state of a cluster as its processes push it
    world sim   two Worlds that carry out the same turns: the real one, and one from a seed
    check       what must never happen
    core        what is true: logs, replication, the controller, the broker. Pure.
    wire        every byte format that leaves a process or lands on disk. Pure.
    config model errors

How a produced record goes through the house:

    world.kafka_server      TCP bytes land in an arena; each whole frame is a Request event
    world.loop              gathers what one wake-up brought, calls core.turn.run_turn
    core.broker.connections header, API and version checked; the body decoded by wire.message
    core.broker.handlers.produce        one file per API
    core.log.partition_log  CRC, sequence, size; base offset and leader epoch patched in place;
                            staged into the Turn: no I/O yet
    core.turn.run_turn      one pwritev per log for the whole wake-up, then `settle`:
    core.replication.streams    what was written is pushed to the followers, one message each
    world.bus               ZeroMQ; the follower appends, writes, and acknowledges its position
    core.replication.leader positions move the high watermark
    core.purgatory          acks=all has waited for it: the reply goes into the Turn
    world.kafka_server      replies leave in the order of the requests

How a change becomes an event: a core leaves a trace in its Turn; world.world writes it to the log
and tells the supervisor; processes.chronicle puts it into words, processes.journal on disk;
`kcluster events`, `why`, `kill-broker --wait` and the screen read it there or follow it.
"""

__version__ = "0.1.0"
