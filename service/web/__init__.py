"""Calls and replies of any protocol: reading, routing, errors, ids and logs."""
