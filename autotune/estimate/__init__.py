"""What a sweep will take before it starts: seconds per trial, and the data that a trial can afford."""
