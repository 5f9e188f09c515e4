"""Exporting a point of the front as a training run."""
