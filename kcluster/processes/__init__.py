"""The shape of the whole: each process's life from start to exit.

    supervisor --fork--> zygote --double fork--> coordinator, broker 1, broker 2, ...

The supervisor is a subreaper, so that what the zygote forks becomes its child: it reaps exit
statuses itself, and its death takes every server along.
"""
