"""What a sweep found: trials, front, confirmation, selection of a point."""
