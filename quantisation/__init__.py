"""From a float32 network to the levels of a packed file: what is felt, rounding, the search."""
