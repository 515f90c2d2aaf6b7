"""Evidence of attacks over the stream, from counts of suspicion and likelihood."""
