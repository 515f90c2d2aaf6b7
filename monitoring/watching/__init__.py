"""Looks at counters, weighs the evidence, and says by name what is wrong."""
