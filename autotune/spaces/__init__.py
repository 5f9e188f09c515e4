"""Search spaces and their costs as shown before a sweep."""
