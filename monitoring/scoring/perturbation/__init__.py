"""The perturbation head: what it learns from, and what it sees."""
