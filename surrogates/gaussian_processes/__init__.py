"""Gaussian processes over encoded configurations, on GPyTorch and BoTorch; the modules import torch."""
