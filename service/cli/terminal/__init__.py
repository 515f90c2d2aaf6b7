"""Commands at a terminal: when they are loaded, what they say, how far a stage has come."""
