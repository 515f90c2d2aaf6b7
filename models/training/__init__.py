"""Rows to weights."""
