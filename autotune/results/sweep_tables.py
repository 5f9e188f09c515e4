"""The results of a sweep as tables, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import read_sweep
from autotune.objectives import MEASURED_COSTS, Objective
from autotune.results.confirmation_runs import (
    ExampleScores,
    RunKey,
    TextSamples,
    confirmation_table,
    ended_runs,
    runs_at,
    stored_example_scores,
    stored_text_samples,
)
from autotune.results.estimates import (
    DEVIATION,
    POOLED,
    POSTERIOR,
    feasible_rows,
    first_trials,
    pool_repeats,
    reported_front,
    search_front,
)
from autotune.results.ladder_view import LadderView, ladder_view
from autotune.results.probe_runs import failed_probes, probe_table
from autotune.results.trial_tables import TRAINED_HEAD, TrialTables
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import SPENT, TrialAttributes, trial_result
from trials.kinds.kind import Metric
from trials.records import TrialStatus

TRIAL_COLUMNS = (
    "trial", "status", "started", "finished", "elapsed", "seconds", "seed", "origin", "error", "failure", "traceback",
    "share", "chunk_tokens", "config",
)  # fmt: skip
"""The columns of `SweepTables.trials` that do not depend on the sweep."""


@dataclass(frozen=True)
class SweepTables(TrialTables):
    """Everything that a sweep's folder holds, for the report, the figures and the export.

    Args:
        folder: the sweep's folder.
        sweep: the resolved sweep; its objectives have references, ideals and floors where they are known.
        trials: one row per trial, in order: `trial` (number), `status` (complete, paused, stopped, pruned,
            failed, lost, running), `started` and `finished` (timestamps), `elapsed` (wall seconds of
            search when it ended), `seconds` (from its start to its end, beside others), `seed`, `origin` (what gave
            the configuration, such as `try[0]`; None if the sampler proposed it), `error`,
            `failure` (kind of the error), `traceback`, `share` (training FLOPs of its runs so far, divided by
            those of its full training; known costs are those of the whole), `chunk_tokens` (the fewest to which a
            pack limited a forward pass; NaN where batches were not divided), `feasible`, `on_search_front` (the
            front of the search), `on_front` (the reported front: after a confirmation, that of the estimates, see
            `estimates.reported_front`), on a ladder `rung` (what the highest was that it was trained on: measured
            costs are of there), `runs` (complete trials of the same configuration), one column per objective under
            its name (NaN unless complete), `pooled.NAME` for its mean over these trials, by which the trial is
            feasible and on the front (only where some configuration ran more than once), `param.NAME` for every
            parameter (missing where inactive), `metric.NAME` for every validation score, `posterior.NAME` and
            `posterior_sd.NAME` where the search stored a posterior of a score, `cost.NAME` for every known and
            measured cost, `cost.head_params` among them.
        curves: one row per point of a validation curve: `trial`, `step`, `samples`, `metric.NAME`.
        confirmations: one row per confirmation run that is complete: `trial` (whose configuration it
            repeats: the first of the configuration), `seed`, `elapsed` (wall seconds of confirmation when it
            ended), `metric.NAME` on validation and `test.NAME` on the test split.
        example_scores: for confirmation runs, the score of each validation example by metric, for the metrics that
            are means over examples.
        text_samples: for confirmation runs of a task that generates, some texts that the model generated for
            validation prompts.
        ended_confirmations: confirmation runs that are not trained again, complete or not.
        baselines: the metric on validation of what needs no adapter, by name (`majority class`; the best
            `trained head` among the trials).
        ladder: who came how far on it, and whether it could be trusted; None for a sweep without one.
        probes: one row per complete run of `autotune probe`; see `probe_runs.probe_table`.
        failed_probes: one row per failed one; see `probe_runs.failed_probes`.
        class_names: of the task's classes in order; empty where they are not known.
        group_names: of the groups of examples, likewise.
        notes: what the start of the sweep said about its data, model and space, in sentences; warnings begin with
            `warning: `.
        configurations: the number of configurations after which the search ends; None if the space has too many to
            try them all.
    """

    folder: Path
    sweep: Sweep
    trials: pd.DataFrame
    curves: pd.DataFrame
    confirmations: pd.DataFrame
    baselines: dict[str, float]
    ladder: LadderView | None = None
    example_scores: ExampleScores = field(default_factory=dict)
    text_samples: TextSamples = field(default_factory=dict)
    ended_confirmations: frozenset[RunKey] = frozenset()
    probes: pd.DataFrame = field(default_factory=lambda: probe_table([]))
    failed_probes: pd.DataFrame = field(default_factory=lambda: failed_probes([]))
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    configurations: int | None = None

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(self.sweep.objectives)

    @property
    def metric(self) -> str:
        """The metric of the task."""
        return self.sweep.task.metric

    def metric_of(self, name: str) -> Metric:
        """Return the direction and the bounds of a score of the task."""
        return self.sweep.task.metric_of(name)

    @property
    def has_tried_all(self) -> bool:
        """Whether each configuration of the space was trained, so that the search ended before its budget."""
        if self.configurations is None:
            return False
        tried = self.trials[self.trials["status"].isin(SPENT)]
        return len({frozenset(config.items()) for config in tried["config"]}) >= self.configurations


def read_tables(folder: str | Path, confirm: Confirm | None = None) -> SweepTables:
    """Read a sweep's folder, finished or not, without changing it.

    Args:
        folder: of the sweep.
        confirm: the confirmation whose runs are read; by default that of the folder.

    Raises:
        InvalidInputError: the folder holds no sweep.
    """
    folder = Path(folder)
    sweep = read_sweep(folder)
    if confirm is not None:
        sweep = sweep.model_copy(update={"confirm": confirm})
    stored = FolderReader(folder, sweep)
    search, probes = stored.trials("search"), stored.trials("probe")
    runs = confirmation_trials(sweep, stored.trials("confirm"))
    trials = _trials(search, sweep.objectives)
    first = first_trials(sweep.objectives, trials)
    confirmations = confirmation_table(runs, first, as_search=confirms_as_search(sweep))
    for name, scores in stored.posterior.items():
        pairs = [scores.get(str(number), (np.nan, np.nan)) for number in trials["trial"]]
        trials[f"{POSTERIOR}{name}"], trials[f"{DEVIATION}{name}"] = zip(*pairs, strict=True)
    trials["on_search_front"] = search_front(sweep.objectives, trials)
    trials["on_front"] = reported_front(sweep.objectives, trials, confirmations)
    if sweep.ladder is not None:
        words = sweep.ladder.rung_labels(sweep.model.name)
        trials["rung"] = [_rung(trial, words) for trial in search]
    baselines: dict[str, float] = next(
        (dict(b) for t in search if (b := TrialAttributes(t).baselines) is not None), {}
    )
    return SweepTables(
        folder=folder,
        sweep=sweep,
        trials=trials,
        curves=_curves(search),
        confirmations=confirmations,
        example_scores=stored_example_scores(runs, first),
        text_samples=stored_text_samples(runs, first),
        ended_confirmations=frozenset(ended_runs(runs, first)),
        baselines={**baselines, **_trained_head(trials, sweep)},
        ladder=ladder_view(sweep, search),
        probes=probe_table(probes),
        failed_probes=failed_probes(probes),
        notes=tuple(stored.notes),
        class_names=tuple(stored.names("classes")),
        group_names=tuple(stored.names("groups")),
        configurations=stored.configurations,
    )


def confirmation_trials(sweep: Sweep, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the runs of a study of confirmations that have the fidelity which the sweep confirms at."""
    return runs_at(trials, sweep.confirm.fidelity(sweep.fidelity), sweep.fidelity)


def confirms_as_search(sweep: Sweep) -> bool:
    """Return whether a sweep confirms its front at the fidelity of its search."""
    return sweep.confirm.fidelity(sweep.fidelity) == sweep.fidelity


def with_confirmations(results: SweepTables, trials: Sequence[FrozenTrial]) -> SweepTables:
    """Return the results with the runs of a confirmation in place of their own; the front stays that of `results`.

    Args:
        results: the results of a sweep.
        trials: of the study of a confirmation.
    """
    first = results.first_trials
    runs = confirmation_trials(results.sweep, trials)
    table = confirmation_table(runs, first, as_search=confirms_as_search(results.sweep))
    return replace(
        results,
        confirmations=table,
        example_scores=stored_example_scores(runs, first),
        text_samples=stored_text_samples(runs, first),
        ended_confirmations=frozenset(ended_runs(runs, first)),
    )


def _trials(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> pd.DataFrame:
    rows = [_trial_row(trial, objectives) for trial in trials]
    names = [objective.name for objective in objectives]
    table = pd.DataFrame(rows, columns=None if rows else [*TRIAL_COLUMNS, *names])
    means, table["runs"] = pool_repeats(list(table["config"]), table[names].to_numpy(dtype=float))
    if (table["runs"] > 1).any():
        table[[f"{POOLED}{name}" for name in names]] = means
    table["feasible"] = feasible_rows(objectives, means)
    return table


def _rung(trial: FrozenTrial, words: Sequence[str]) -> str | None:
    """Return the highest rung that a trial was trained to, in words; None before its first."""
    if trial.state == TrialState.COMPLETE:
        return words[-1]
    rungs = TrialAttributes(trial).rungs
    return words[rungs[-1].rung] if rungs else None


def _trained_head(trials: pd.DataFrame, sweep: Sweep) -> dict[str, float]:
    """Return the best score of a trained head on the frozen base model: an adapter must beat it to be useful."""
    column = f"metric.{sweep.task.metric}"
    if "param.family" not in trials or column not in trials:
        return {}
    scores = trials.loc[(trials["param.family"] == "head") & trials["feasible"], column].astype(float)
    best = scores.max() if sweep.task.metric_of(sweep.task.metric).direction == "maximize" else scores.min()
    return {} if scores.empty else {TRAINED_HEAD: float(best)}


def _trial_row(trial: FrozenTrial, objectives: Sequence[Objective]) -> dict[str, Any]:
    attributes = TrialAttributes(trial)
    result = attributes.outcome
    values = attributes.values or [np.nan] * len(objectives)
    row: dict[str, Any] = {
        "trial": trial.number,
        "status": "running" if result is None else str(result.status),
        "started": trial.datetime_start,
        "finished": trial.datetime_complete,
        "elapsed": np.nan if attributes.elapsed is None else attributes.elapsed,
        "seconds": np.nan if result is None else result.seconds,
        "seed": attributes.seed,
        "origin": None if attributes.origin is None else str(attributes.origin),
        "error": None if result is None else result.error,
        "failure": None if result is None or result.failure is None else str(result.failure),
        "traceback": None if result is None else result.traceback,
        "share": np.nan if result is None else result.flops_share,
        "chunk_tokens": np.nan if result is None else result.chunk_tokens or np.nan,
        "config": dict(trial.params),
        **{objective.name: value for objective, value in zip(objectives, values, strict=True)},
        **{f"param.{name}": value for name, value in trial.params.items()},
        **{f"cost.{name}": value for name, value in attributes.costs.items()},
    }
    if result is not None:
        # Scores on a lower rung are no final scores; the curve has them.
        if result.status == TrialStatus.COMPLETE:
            row |= {f"metric.{name}": value for name, value in result.metrics.items()}
        row |= {f"cost.{name}": float(getattr(result, name)) for name in MEASURED_COSTS}
    return row


def _curves(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    rows = [
        {
            "trial": trial.number,
            "step": point.step,
            "samples": point.samples,
            **{f"metric.{name}": value for name, value in point.metrics.items()},
        }
        for trial in trials
        if (result := trial_result(trial)) is not None
        for point in result.curve
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial", "step", "samples"])
