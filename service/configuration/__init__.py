"""The settings: read, checked and completed."""
