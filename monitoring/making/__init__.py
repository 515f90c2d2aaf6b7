"""Making a version: train a net or take a graph, put the scores in, judge it, publish it."""
