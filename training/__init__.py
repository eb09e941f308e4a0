"""How a network is trained: options, start, update, checkpoints, processes."""
