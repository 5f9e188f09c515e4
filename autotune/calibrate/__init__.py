"""The settings on which only speed depends, measured on the sweep's own model, data and device before it starts."""
