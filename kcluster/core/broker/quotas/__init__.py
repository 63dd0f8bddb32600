"""Clients that may have only so much of this broker: what they had, and how long they wait."""
