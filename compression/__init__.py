"""From a float32 network to the levels of a packed file: calibration, rounding, the search."""
