"""A foreign graph: read from its file, brought to one form, edited and run."""
