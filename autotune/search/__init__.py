"""The search loop and its parts, shared by sweeps, their confirmation and `autotune.optimize`."""
