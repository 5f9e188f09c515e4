"""The scores of predictions against references, which need no model."""
