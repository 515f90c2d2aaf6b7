"""Attacks that see answers only: scores or labels."""
