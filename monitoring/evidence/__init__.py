"""Counters and labels to alarms: pure statistics and their state."""
