"""The whole loop for real: scenarios, labelled traffic over HTTP, and what became of it."""
