"""Alerts of Alertmanager and Grafana to decisions: each one once."""
