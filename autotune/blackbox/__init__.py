"""Search over any function that can be trained for longer or shorter: `autotune.optimize`."""
