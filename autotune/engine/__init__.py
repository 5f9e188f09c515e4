"""Running a sweep: search, confirmation, progress events."""
