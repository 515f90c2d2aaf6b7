"""Where counters come from when not from the services themselves."""
