"""Calls and replies of any protocol: reading, routing, errors, ids, logs and traces."""
