"""Errors, files, locks, logs, processes, times: knows nothing of models."""
