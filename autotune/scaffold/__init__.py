"""Inspection of a model and a data file, and the sweep file that `autotune init` writes for them."""
