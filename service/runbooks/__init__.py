"""The runbooks of the alerts as pages of the service."""
