"""Multi-objective search for fine-tuning configurations: adapters, layers, ranks, learning rates.

Everything in `__all__` is public; everything else is private and may change without notice. Public names are imported
on first use, so that `import autotune` loads neither torch nor optuna nor pandas.

Example:
    >>> import autotune
    >>> results = autotune.run("quickstart")
    >>> results.knee().export("runs/knee")
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from autotune.version import __version__

if TYPE_CHECKING:
    from autotune.api.adapter import learning_rates, peft_config
    from autotune.api.own_score import metric
    from autotune.api.results import SweepResults, export_run, load_results
    from autotune.api.run import plan, run
    from autotune.blackbox.objectives import Budget, Objective
    from autotune.blackbox.optimization import optimize
    from autotune.engine.sweep_run import SweepInterruptedError
    from autotune.ladder.rungs import Ladder
    from autotune.ledger.ledger import LedgerError
    from autotune.sampler.pareto_sampler import ParetoSampler
    from autotune.sampler.prior import Near, Prior, Weights
    from autotune.search.failures import SearchFailedError
    from autotune.sweep.schema import Sweep
    from autotune.sweep.sweep_file import load_sweep
    from autotune.trainer.callbacks import ReportCallback
    from autotune.trainer.trial import TrainerTrial
    from autotune.trainer.tuning import tune_trainer
    from search_spaces.errors import AutotuneError, InvalidInputError
    from trials.execution.errors import ExecutorError
    from trials.training.run import DivergedError

__all__ = [
    "AutotuneError",
    "Budget",
    "DivergedError",
    "ExecutorError",
    "InvalidInputError",
    "Ladder",
    "LedgerError",
    "Near",
    "Objective",
    "ParetoSampler",
    "Prior",
    "ReportCallback",
    "SearchFailedError",
    "Sweep",
    "SweepInterruptedError",
    "SweepResults",
    "TrainerTrial",
    "Weights",
    "__version__",
    "export_run",
    "learning_rates",
    "load_results",
    "load_sweep",
    "metric",
    "optimize",
    "peft_config",
    "plan",
    "run",
    "tune_trainer",
]

_MODULES = {
    "AutotuneError": "search_spaces.errors",
    "Budget": "autotune.blackbox.objectives",
    "DivergedError": "trials.training.run",
    "ExecutorError": "trials.execution.errors",
    "InvalidInputError": "search_spaces.errors",
    "Ladder": "autotune.ladder.rungs",
    "LedgerError": "autotune.ledger.ledger",
    "Near": "autotune.sampler.prior",
    "Objective": "autotune.blackbox.objectives",
    "ParetoSampler": "autotune.sampler.pareto_sampler",
    "Prior": "autotune.sampler.prior",
    "ReportCallback": "autotune.trainer.callbacks",
    "SearchFailedError": "autotune.search.failures",
    "Sweep": "autotune.sweep.schema",
    "SweepInterruptedError": "autotune.engine.sweep_run",
    "SweepResults": "autotune.api.results",
    "TrainerTrial": "autotune.trainer.trial",
    "Weights": "autotune.sampler.prior",
    "export_run": "autotune.api.results",
    "learning_rates": "autotune.api.adapter",
    "load_results": "autotune.api.results",
    "load_sweep": "autotune.sweep.sweep_file",
    "metric": "autotune.api.own_score",
    "optimize": "autotune.blackbox.optimization",
    "peft_config": "autotune.api.adapter",
    "plan": "autotune.api.run",
    "run": "autotune.api.run",
    "tune_trainer": "autotune.trainer.tuning",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():
        # In a notebook without ipywidgets, the import of tqdm by other libraries warns about its own progress bars.
        warnings.filterwarnings("ignore", message="IProgress not found")
        value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names as well, imported or not."""
    return sorted({*globals(), *__all__})
