"""The records of probe runs, as values and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from optuna.trial import FrozenTrial

from autotune.trial_attributes import TrialAttributes, trial_result
from trials.records import TrialStatus

_COLUMNS = ("examples", "tokens", "params", "learning_rate", "batch_size")


@dataclass(frozen=True, order=True)
class ProbeRun:
    """The identity of one run, which its record is stored under.

    Args:
        trial: The trial whose configuration it has.
        model: The base model: the sweep's own or an additional one.
        share: The share of the search's training examples; above 1 it uses more of the training data.
        rate: The factor of the configuration's learning rate.
        batch: The factor of the configuration's batch size.
        seed: A report seed.
    """

    trial: int
    model: str
    share: float
    rate: float
    batch: float
    seed: int


def run_of(trial: FrozenTrial) -> ProbeRun:
    """Return the run that a trial of the study records."""
    return ProbeRun(**TrialAttributes(trial).probe)


def probe_table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Return one row per complete run.

    Columns: the fields of `ProbeRun`, `examples` (per epoch), `tokens` (seen in training, repetitions counted),
    `params` (of the base model), `learning_rate`, `batch_size`, and `metric.NAME` on validation data.
    """
    rows = [
        {
            **asdict(run_of(trial)),
            **{name: TrialAttributes(trial).column(name) for name in _COLUMNS},
            **{f"metric.{name}": value for name, value in result.metrics.items()},
        }
        for trial in trials
        if (result := trial_result(trial)) is not None and result.status == TrialStatus.COMPLETE
    ]
    names = [*ProbeRun.__dataclass_fields__, *_COLUMNS]
    return pd.DataFrame(rows, columns=None if rows else names)


def failed_probes(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Return one row per failed run: the fields of `ProbeRun`, `examples` (per epoch), and `error`."""
    rows = [
        {
            **asdict(run_of(trial)),
            "examples": TrialAttributes(trial).column("examples"),
            "error": result.error,
        }
        for trial in trials
        if (result := trial_result(trial)) is not None and result.status != TrialStatus.COMPLETE
    ]
    names = [*ProbeRun.__dataclass_fields__, "examples", "error"]
    return pd.DataFrame(rows, columns=None if rows else names)


def search_values(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of a table of them that have the learning rate and batch size of their point."""
    return runs[(runs["rate"] == 1.0) & (runs["batch"] == 1.0)]
