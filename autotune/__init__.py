"""The engine: ask, run, tell, and the doors to it (command line, report, export)."""
