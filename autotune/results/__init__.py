"""The results of a sweep: trials, front, confirmation, recommendation and selection of a point."""
