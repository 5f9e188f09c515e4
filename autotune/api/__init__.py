"""The public Python API; `autotune/__init__.py` offers its names."""
