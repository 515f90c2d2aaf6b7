"""Evidence of drift and live accuracy from counters and labels: pure statistics and their state."""
