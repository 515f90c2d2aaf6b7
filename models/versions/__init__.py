"""A version on disk, and running it; no torch."""
