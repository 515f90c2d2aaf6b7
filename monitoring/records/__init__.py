"""What outlives a process: requests, answers and labels in a database."""
