"""How a network is trained: the update, its solver, the last layer, several processes."""
