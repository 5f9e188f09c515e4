"""Packed training: several configurations at once on one frozen base model."""
