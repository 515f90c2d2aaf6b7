"""The alerts as records, a file for each question, and what they are rendered to."""
