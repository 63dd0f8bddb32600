"""What must never happen, in prose and then in code: invariants of the cores, and anomalies that
a client could see (named as Jepsen names them). Pure."""
