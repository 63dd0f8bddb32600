"""The controller: decides what the cluster is, and writes it down before anybody hears of it."""
