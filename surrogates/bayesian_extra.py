"""The check of the packages that sampling from the posterior of hyperparameters needs."""

from __future__ import annotations

from importlib.util import find_spec

from search_spaces.errors import InvalidInputError, Problem, install_hint

_PACKAGES = ("jax", "numpyro")


def require_bayesian_extra() -> None:
    """Check that jax and numpyro are installed, without importing them.

    Raises:
        InvalidInputError: One of them is not.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        what = f"saas-bayesian needs {' and '.join(missing)}, which is not installed"
        fix = f"Run: {install_hint('fully-bayesian')}, or use the surrogate saas."
        raise InvalidInputError(Problem("surrogate", what, fix))
