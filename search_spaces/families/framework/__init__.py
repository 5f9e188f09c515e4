"""Base classes and helpers that adapter families are written with."""
