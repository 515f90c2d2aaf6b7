"""Gates against poison, peeking and missing data, measured."""
