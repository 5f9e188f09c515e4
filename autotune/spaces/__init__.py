"""Summaries of search spaces and their costs before a sweep."""
