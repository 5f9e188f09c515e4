"""The reference page of the Python API: every public name, rendered by mkdocstrings from its docstring."""

from __future__ import annotations

import autotune

_GROUPS = {
    "Run a sweep": ("run", "plan", "Sweep", "load_sweep", "metric"),
    "Use the results": ("load_results", "SweepResults", "export_run", "peft_config", "learning_rates"),
    "Optimize any black box": ("optimize", "Objective", "Budget", "Ladder", "ParetoSampler"),
    "State priors": ("Prior", "Near", "Weights"),
    "Search with your own trainer": ("tune_trainer", "TrainerTrial", "ReportCallback"),
}
_RETURNED = {
    "Run a sweep": ("autotune.engine.plan.SweepPlan", "autotune.estimate.sweep_time.SweepTime"),
    "Use the results": (
        "autotune.api.point.Point",
        "autotune.api.point.Score",
        "autotune.report.agreement.RankAgreement",
    ),
    "Optimize any black box": (
        "autotune.blackbox.result.OptimizeResult",
        "autotune.blackbox.result.OptimizeTrial",
    ),
}
"""Classes of objects that public functions return; they are documented, and not for import."""
_INTRODUCTION = """\
# Python API

`import autotune` offers the names below. It loads neither torch nor Optuna until a name needs them. Everything else
is private and may change without notice. [Use it from Python](../guides/python.md) shows them at work.
"""


def python_api_page() -> str:
    """Return the page as Markdown, with a directive of mkdocstrings for each public name.

    Raises:
        ValueError: A public name that is in no group.
    """
    public = {name for name in autotune.__all__ if not name.startswith("__")}
    groups = {**_GROUPS, "Exceptions": tuple(sorted(name for name in public if name.endswith("Error")))}
    grouped = {name for names in groups.values() for name in names}
    if public != grouped:
        raise ValueError(f"_GROUPS and autotune.__all__ differ in {sorted(public ^ grouped)}")
    return "\n".join([_INTRODUCTION, *(_section(title, names) for title, names in groups.items())])


def _section(title: str, names: tuple[str, ...]) -> str:
    paths = [*(f"autotune.{name}" for name in names), *_RETURNED.get(title, ())]
    return f"## {title}\n\n" + "\n\n".join(f"::: {path}" for path in paths) + "\n"
