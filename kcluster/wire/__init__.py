"""Every byte format that leaves a process or lands on disk. Pure: bytes in, values out.

`message` is the engine that turns Kafka's messages (`messages/`, one file per API) into bytes and
back; `apis` is the table of what we serve; `frame` has the headers; `records` the record batch
(v2), the one format that is the same on the wire, between brokers and on disk; `bus` is what our
own processes say to each other.
"""
