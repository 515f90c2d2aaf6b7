"""Score heads that are compiled into the graph."""
