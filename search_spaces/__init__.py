"""What a configuration is, what it may be, and what it costs before anything is trained."""
