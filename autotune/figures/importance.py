"""Which parameters mattered for the objectives that had to be measured.

fANOVA (Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance") as optuna has it:
the share of the variance, over the ranges that were tried, that a random forest fitted to the trials gives to
each parameter alone. What is missing to 100 % is interplay. It explains the objective's rank among the
trials, so that one diverged trial is not the whole variance.

A parameter that only some trials have has no share over all trials. So all trials are asked about what all of
them have (the family among it), and each family with enough trials about its own knobs.

With few trials a forest explains noise as well. Beside each share stands the most that noise could be behind:
the most that the parameter gets when the objective is shuffled among the trials, ten times, times the
share of the variance that a forest fails to predict on trials it has not seen.

PED-ANOVA, which treats a conditional parameter over all trials, was tried and left: with 24 trials in four
families, shuffles gave single knobs up to twenty times what all parameters had together.
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
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import configuration
from search_spaces.parameters.types import Configuration

LEAST_TRIALS = 12
"""Complete trials below which nothing is said."""
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
        table: one row an objective, scope and parameter: `objective`, `scope` (`all trials` or a family),
            `parameter`, `importance` (share of the variance, in [0, 1]), `noise` (the most of it that noise
            could be behind), `trials` (how many the scope has) and `predicted` (the share of the variance
            that a forest predicts on trials it has not seen); the greatest importance of a scope first.
        skipped: families left out, each with its number of complete trials.
    """

    table: pd.DataFrame
    skipped: dict[str, int]


def importance_view(results: SweepTables) -> ImportanceView:
    """Importance for each uncertain objective, over all trials and within each family with enough of them.

    Raises:
        NothingToShowError: too few complete trials, or nothing that varies.
    """
    rows = trial_points(results)
    uncertain = [objective for objective in results.objectives if not objective.known]
    assert uncertain, "a sweep has an objective that is not known without training"
    if len(rows) < LEAST_TRIALS:
        verb = "is" if len(rows) == 1 else "are"
        raise NothingToShowError(
            f"{counted(len(rows), 'complete trial')} {verb} too few to say which parameters matter; "
            f"it takes {LEAST_TRIALS}."
        )
    sizes = rows["family"].value_counts()
    sizes = sizes if len(sizes) > 1 else sizes[:0]
    large = [str(family) for family in sizes.index[:_MOST_FAMILIES] if sizes[family] >= LEAST_TRIALS]
    scopes = {EVERYTHING: rows, **{family: rows[rows["family"] == family] for family in large}}
    tables = [_scope(part, objective, name) for objective in uncertain for name, part in scopes.items()]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise NothingToShowError("No parameter that all trials have took more than one value.")
    skipped = {str(family): int(count) for family, count in sizes.items() if family not in large}
    return ImportanceView(table, skipped)


def _scope(rows: pd.DataFrame, objective: Objective, scope: str) -> pd.DataFrame:
    """The rows of `ImportanceView.table` for one objective and scope."""
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
    """How much of a share noise could be behind: all of it where the forest predicts nothing."""
    return (1.0 - predicted) * max(shuffled) if predicted > 0 else max(share, *shuffled)


def observed_distributions(configs: Sequence[Configuration]) -> dict[str, BaseDistribution]:
    """The ranges of the parameters that every configuration has and that vary; logarithmic if wide."""
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
    """The share of the variance that a forest predicts on trials left out of each tree, in [0, 1]."""
    if np.ptp(losses) == 0:
        return 0.0
    table = pd.get_dummies(pd.DataFrame([{name: config[name] for name in names} for config in configs]))
    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=0, n_jobs=1)
    return float(np.clip(forest.fit(table.to_numpy(dtype=float), losses).oob_score_, 0.0, 1.0))


def _study(configs: Sequence[Configuration], distributions: dict[str, BaseDistribution]) -> optuna.Study:
    """A study in memory with the varying parameters of each configuration; its own values mean nothing."""
    study = optuna.create_study()
    for config in configs:
        params = {
            # The forest splits on the plain value; the logarithm spreads what spans orders of magnitude.
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
    """Share of the variance by parameter, where the study's trials have these losses."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, max_depth=32, seed=0)
    found = optuna.importance.get_param_importances(
        study, evaluator=evaluator, target=lambda trial: float(losses[trial.number]), normalize=False
    )
    return {name: float(share) for name, share in found.items()}


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without optuna's line for every study created and its notes on experimental arguments."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@says_why("What mattered")
def plot_importance(results: SweepTables) -> go.Figure:
    """Bars of importance, blue where they exceed what noise could be behind, with that level as a mark.

    Returns:
        a figure; one that says why where there are too few trials.
    """
    view = importance_view(results)
    groups = view.table.groupby(["objective", "scope"], sort=False)
    cells = [(keys, part.head(_MOST_BARS).iloc[::-1]) for keys, part in groups]
    # In bars' heights; each panel needs the room of two more for its title and ticks.
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
        f"<br>noise could be behind {percent(row['noise'])}"
        for _, row in part.iterrows()
    ]
    return [
        go.Bar(
            x=part["importance"], y=names, orientation="h", showlegend=False,
            marker={"color": [PALETTE[0] if c else FAINT for c in clear]}, hoverinfo="text", hovertext=hovers,
        ),
        go.Scatter(
            x=part["noise"], y=names, mode="markers", name="the most that noise could be behind",
            showlegend=legend, hoverinfo="skip",
            marker={"symbol": "line-ns-open", "size": 14, "color": INK, "line": {"width": 2}},
        ),
    ]  # fmt: skip


def _axis_words(view: ImportanceView) -> str:
    words = ["Share of the variance of its rank"]
    if view.skipped:
        few = ", ".join(f"{family} ({count})" for family, count in view.skipped.items())
        few = few if len(view.skipped) <= 4 else f"{len(view.skipped)} families"
        words += textwrap.wrap(f"Too few trials to look within {few}", 44)
    return "<br>".join(map(text, words))


def _panel_title(part: pd.DataFrame) -> str:
    objective, scope, trials = part[["objective", "scope", "trials"]].iloc[0]
    where = f"all {trials} trials" if scope == EVERYTHING else f"{trials} trials of {text(scope)}"
    return f"<b>{label(objective)}</b>, {where} · {percent(part['predicted'].iloc[0], 0)} predictable"


def importance_title(view: ImportanceView) -> str:
    """What stands out for the first objective, in a sentence."""
    objective = str(view.table["objective"].iloc[0])
    rows = view.table[view.table["objective"] == objective]
    clear = rows[rows["importance"] > rows["noise"]]
    words = [text(name) for name in dict.fromkeys(clear["parameter"])][:4]
    about = within_sentence(label(objective))
    if not words:
        return f"For {about}, nothing stands out from noise"
    return f"For {about}, what stands out from noise: {', '.join(words)}"
