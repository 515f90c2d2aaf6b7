"""What the settings say, and whether it can be meant."""
