"""The language of space files."""
