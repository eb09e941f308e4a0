"""Evaluation, and results to look at."""
