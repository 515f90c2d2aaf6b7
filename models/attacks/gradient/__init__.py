"""Attacks that follow the gradient of the input."""
