"""The version of the distribution `autotune-peft`."""

__version__ = "0.1.0"
