"""Evidence from labels: harm, and whether the labels speak for all requests."""
