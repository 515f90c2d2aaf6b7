"""The watcher: reads counters, weighs the evidence, and reports problems by name."""
