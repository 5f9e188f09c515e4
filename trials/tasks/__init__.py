"""Tasks: data, encoding and metrics."""
