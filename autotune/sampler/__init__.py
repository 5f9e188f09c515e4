"""ParetoSampler, a multi-objective Bayesian sampler for Optuna studies."""
