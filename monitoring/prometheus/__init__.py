"""Prometheus: what is scraped, what is recorded, and the alerts as code."""
