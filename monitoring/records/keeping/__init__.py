"""What of the records is kept, and for how long: limits, samples, purges, exports, figures."""
