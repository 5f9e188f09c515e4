"""Surrogates: predictions for configurations and scales that have not been run."""
