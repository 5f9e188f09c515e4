"""What a search starts from: the user's own configurations, and the trials of earlier sweeps."""
