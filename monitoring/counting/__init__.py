"""Counting in the request path: metrics, cells, query detection; and reading counters back."""
