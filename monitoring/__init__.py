"""Scores in the graph, evidence over the stream, triggers and the lifecycle."""
