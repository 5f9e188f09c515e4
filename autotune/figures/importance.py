"""Importance of the parameters for the measured objectives.

The importance is that of fANOVA (Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance")
as optuna implements it: the share of the variance, over the ranges that were tried, that a random forest attributes
to each parameter by itself. The rest to 100 % is interaction. The forest is fitted to the objective's rank among the
trials, so that one diverged trial does not dominate the variance.

A conditional parameter has no share over all trials. So parameters that all trials have (the family among them) are
analyzed over all trials, and a family's own parameters over the trials of the family, if they are enough.

With few trials a forest also explains noise. The noise level of a parameter is its greatest importance over ten
random permutations of the objective, times the share of the variance that a forest does not predict on held-out
trials.

Rejected: PED-ANOVA, which treats a conditional parameter over all trials. With 24 trials in four families,
permutations gave single parameters up to twenty times the importance of all parameters together.
"""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from plotly.subplots import make_subplots
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor

from autotune.figures.style import FAINT, INK, PALETTE, NothingToShowError, finish, says_why, text
from autotune.figures.trial_points import trial_points
from autotune.formatting.units import counted, label, percent, within_sentence
from autotune.objectives import Objective
from autotune.results.tables import configuration
from autotune.results.trial_tables import TrialTables
from search_spaces.parameters.types import Configuration

LEAST_TRIALS = 12
"""Complete trials below which no importance is computed."""
EVERYTHING = "all trials"
_SHUFFLES = 10
_TREES = 24
_LOG_SPAN = 20.0
_MOST_BARS = 12
_MOST_FAMILIES = 5


@dataclass(frozen=True)
class ImportanceView:
    """Importance of parameters.

    Args:
        table: one row per objective, scope and parameter, in descending order of importance within a scope. Columns:
            `objective`, `scope` (`all trials` or a family), `parameter`, `importance` (share of the variance, in
            [0, 1]), `noise` (its noise level), `trials` (in the scope) and `predicted` (the share of the variance
            that a forest predicts on held-out trials).
        skipped: families with too few trials, each with its number of complete trials.
    """

    table: pd.DataFrame
    skipped: dict[str, int]


def importance_view(results: TrialTables) -> ImportanceView:
    """Compute the importance for each measured objective, over all trials and within each family that has enough.

    Raises:
        NothingToShowError: too few complete trials, or no parameter varies.
    """
    rows = trial_points(results)
    measured = [objective for objective in results.objectives if not objective.known]
    assert measured, "every sweep has an objective that only training can measure"
    if len(rows) < LEAST_TRIALS:
        verb = "is" if len(rows) == 1 else "are"
        raise NothingToShowError(
            f"{counted(len(rows), 'complete trial')} {verb} too few to estimate the importance of parameters; "
            f"at least {LEAST_TRIALS} are needed."
        )
    sizes = rows["family"].value_counts()
    sizes = sizes if len(sizes) > 1 else sizes[:0]
    large = [str(family) for family in sizes.index[:_MOST_FAMILIES] if sizes[family] >= LEAST_TRIALS]
    scopes = {EVERYTHING: rows, **{family: rows[rows["family"] == family] for family in large}}
    tables = [_scope(part, objective, name) for objective in measured for name, part in scopes.items()]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise NothingToShowError("No parameter that all trials have takes more than one value.")
    skipped = {str(family): int(count) for family, count in sizes.items() if family not in large}
    return ImportanceView(table, skipped)


def _scope(rows: pd.DataFrame, objective: Objective, scope: str) -> pd.DataFrame:
    """Compute the rows of `ImportanceView.table` for one objective and scope."""
    configs = [configuration(row) for _, row in rows.iterrows()]
    distributions = observed_distributions(configs)
    if not distributions:
        return pd.DataFrame()
    ranks = rankdata(objective.loss(rows[objective.name]))
    predicted = predictable(configs, list(distributions), ranks)
    rng = np.random.default_rng(0)
    with _quiet_optuna():
        study = _study(configs, distributions)
        found = _shares(study, ranks)
        shuffled = [_shares(study, rng.permutation(ranks)) for _ in range(_SHUFFLES)]
    table = pd.DataFrame(
        {
            "objective": objective.name,
            "scope": scope,
            "parameter": list(found),
            "importance": list(found.values()),
            "noise": [_noise(found[name], [s[name] for s in shuffled], predicted) for name in found],
            "trials": len(rows),
            "predicted": predicted,
        }
    )
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _noise(share: float, shuffled: Sequence[float], predicted: float) -> float:
    """Return the noise level of a share: at least the share itself if the forest predicts nothing."""
    return (1.0 - predicted) * max(shuffled) if predicted > 0 else max(share, *shuffled)


def observed_distributions(configs: Sequence[Configuration]) -> dict[str, BaseDistribution]:
    """Return the ranges of the parameters that every configuration has and that vary; logarithmic if wide."""
    found: dict[str, BaseDistribution] = {}
    for name in configs[0]:
        values = [config[name] for config in configs if name in config]
        if len(values) < len(configs) or len(set(map(repr, values))) < 2:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            low, high = float(min(values)), float(max(values))
            found[name] = FloatDistribution(low, high, log=low > 0 and high / low >= _LOG_SPAN)
        else:
            found[name] = CategoricalDistribution(list(dict.fromkeys(values)))
    return found


def predictable(configs: Sequence[Configuration], names: Sequence[str], losses: NDArray[np.float64]) -> float:
    """Return the share of the variance that a forest predicts out of bag, in [0, 1]."""
    if np.ptp(losses) == 0:
        return 0.0
    table = pd.get_dummies(pd.DataFrame([{name: config[name] for name in names} for config in configs]))
    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=0, n_jobs=1)
    return float(np.clip(forest.fit(table.to_numpy(dtype=float), losses).oob_score_, 0.0, 1.0))


def _study(configs: Sequence[Configuration], distributions: dict[str, BaseDistribution]) -> optuna.Study:
    """Build a study in memory with the varying parameters of each configuration and placeholder values."""
    study = optuna.create_study()
    for config in configs:
        params = {
            # The forest samples splits uniformly in the value, so a wide range is passed as its logarithm.
            name: float(np.log(config[name])) if getattr(d, "log", False) else config[name]
            for name, d in distributions.items()
        }
        ranges = {name: _in_log(d) for name, d in distributions.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=0.0))
    return study


def _in_log(distribution: BaseDistribution) -> BaseDistribution:
    if isinstance(distribution, FloatDistribution) and distribution.log:
        return FloatDistribution(float(np.log(distribution.low)), float(np.log(distribution.high)))
    return distribution


def _shares(study: optuna.Study, losses: NDArray[np.float64]) -> dict[str, float]:
    """Compute the share of the variance by parameter for these losses of the study's trials."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, max_depth=32, seed=0)
    found = optuna.importance.get_param_importances(
        study, evaluator=evaluator, target=lambda trial: float(losses[trial.number]), normalize=False
    )
    return {name: float(share) for name, share in found.items()}


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence optuna's message per created study and its warnings about experimental arguments."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@says_why("Importance of the parameters")
def plot_importance(results: TrialTables) -> go.Figure:
    """Plot the importance as bars, blue above the noise level, which a mark shows.

    Returns:
        a figure; it contains the reason if there are too few trials.
    """
    view = importance_view(results)
    groups = view.table.groupby(["objective", "scope"], sort=False)
    cells = [(keys, part.head(_MOST_BARS).iloc[::-1]) for keys, part in groups]
    # In heights of a bar; each panel needs two more for its title and ticks.
    sizes = [len(part) + 2.4 for _, part in cells]
    height, gap = 162 + 26 * sum(sizes), 0.0 if len(cells) == 1 else 74 / (26 * sum(sizes))
    figure = make_subplots(
        len(cells), 1, row_heights=[len(part) + 0.4 for _, part in cells],
        vertical_spacing=min(gap, 0.9 / len(cells)), subplot_titles=[_panel_title(part) for _, part in cells],
    )  # fmt: skip
    for row, (_, part) in enumerate(cells, start=1):
        for trace in _bars(part, legend=row == 1):
            figure.add_trace(trace, row=row, col=1)
        figure.update_xaxes(tickformat=".0%", rangemode="tozero", row=row, col=1)
        figure.update_yaxes(showgrid=False, row=row, col=1)
    figure.update_xaxes(title_text=_axis_words(view), row=len(cells), col=1)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_layout(bargap=0.3, margin={"t": 118, "b": 88}, legend={"y": 1 + 34 / (height - 206)})
    return finish(figure, importance_title(view), height=int(height))


def _bars(part: pd.DataFrame, *, legend: bool) -> list[go.Bar | go.Scatter]:
    names = part["parameter"].map(text)
    clear = part["importance"] > part["noise"]
    hovers = [
        f"<b>{text(row['parameter'])}</b><br>{percent(row['importance'])} of the variance"
        f"<br>noise level {percent(row['noise'])}"
        for _, row in part.iterrows()
    ]
    return [
        go.Bar(
            x=part["importance"], y=names, orientation="h", showlegend=False,
            marker={"color": [PALETTE[0] if c else FAINT for c in clear]}, hoverinfo="text", hovertext=hovers,
        ),
        go.Scatter(
            x=part["noise"], y=names, mode="markers", name="noise level",
            showlegend=legend, hoverinfo="skip",
            marker={"symbol": "line-ns-open", "size": 14, "color": INK, "line": {"width": 2}},
        ),
    ]  # fmt: skip


def _axis_words(view: ImportanceView) -> str:
    words = ["Share of the variance of the rank"]
    if view.skipped:
        few = ", ".join(f"{family} ({count})" for family, count in view.skipped.items())
        few = few if len(view.skipped) <= 4 else f"{len(view.skipped)} families"
        words += textwrap.wrap(f"Too few trials for an analysis within {few}", 44)
    return "<br>".join(map(text, words))


def _panel_title(part: pd.DataFrame) -> str:
    objective, scope, trials = part[["objective", "scope", "trials"]].iloc[0]
    where = f"all {trials} trials" if scope == EVERYTHING else f"{trials} trials of {text(scope)}"
    return f"<b>{label(objective)}</b>, {where} · {percent(part['predicted'].iloc[0], 0)} predictable"


def importance_title(view: ImportanceView) -> str:
    """Return the parameters above the noise level for the first objective, in a sentence."""
    objective = str(view.table["objective"].iloc[0])
    rows = view.table[view.table["objective"] == objective]
    clear = rows[rows["importance"] > rows["noise"]]
    words = [text(name) for name in dict.fromkeys(clear["parameter"])][:4]
    about = within_sentence(label(objective))
    if not words:
        return f"No parameter is above the noise level for {about}"
    return f"Parameters above the noise level for {about}: {', '.join(words)}"
