"""A training run and what it leaves: options, setup, checkpoints, summary, curves, report."""
