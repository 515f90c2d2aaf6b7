"""Alerts of Alertmanager and Grafana, each decided on once."""
