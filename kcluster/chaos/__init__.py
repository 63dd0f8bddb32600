"""Break a real cluster and judge it: a checked load, and what became of every record."""
