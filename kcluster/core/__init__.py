"""What is true. Pure, deterministic, single-threaded: no clock, no socket, no operating system.

A core takes events and writes what it wants into a `Turn` (`turn.py`, read it first); `run_turn`
carries it out in a World. There are two cores that run as processes:

    broker.broker.BrokerCore            logs, replicas, clients' requests
    controller.controller.ControllerCore    brokers, topics, leaders, ISR, configs

and what they are made of:

    log             one partition's log: segments, indexes, leader epochs, producers, recovery
    replication     leader and follower of one partition, and the streams between brokers
    purgatory       requests that wait for a condition or a deadline
    metadata        the metadata log and the image that replays it
    traces          state changes worth telling
"""
