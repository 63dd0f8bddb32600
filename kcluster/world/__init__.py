"""The real World: the only room, with `processes`, that has sockets, files, clocks and signals.

`loop` drives a core, `disk` carries out file operations, `kafka_server` is TCP for the world,
`bus` is ZeroMQ for the inside, `platform` has what only Linux has with a fall-back beside each,
`events` writes traces to the log file, `world` puts them together as what `run_turn` needs.
"""
