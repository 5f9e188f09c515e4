"""The training loop of one trial."""
