"""From what the units measured, row by row, to the figures of a report: one module per part."""
