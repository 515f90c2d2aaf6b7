"""Laws on arrays: intervals, tests, calibration, ranks; no torch, no I/O."""
