"""Requests, answers and labels in a database."""
