"""What is believed about configurations that have not been run yet."""
