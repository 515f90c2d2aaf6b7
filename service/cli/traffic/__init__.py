"""`holdfast traffic`: rows, changed or not, sent to a running service at an even pace."""
