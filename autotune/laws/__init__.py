"""Scaling laws fitted to tables of runs and to experiments."""
