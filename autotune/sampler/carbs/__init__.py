"""The strategy `carbs`: local search around the cost-quality front (Fetterman et al. 2023, arXiv 2306.08055)."""
