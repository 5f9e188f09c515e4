"""Texts for readers: numbers with units, configurations, short forms."""
