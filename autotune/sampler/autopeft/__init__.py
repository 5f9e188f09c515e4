"""Strategy `autopeft`: batches by noisy expected hypervolume improvement on sparse Gaussian processes."""
