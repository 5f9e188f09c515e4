"""Strategy `pareto`: expected hypervolume improvement over Gaussian processes."""
