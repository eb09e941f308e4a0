"""Pictures of results: plotting, grids of photos, the confusion matrix."""
