"""Probe: training runs on shares of the data, and the forecast for more data."""
