"""Channels of a table's columns together, and tables of few rows."""
