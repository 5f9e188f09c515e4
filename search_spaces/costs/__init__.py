"""Costs of configurations in closed form: parameters, bytes, FLOPs."""
