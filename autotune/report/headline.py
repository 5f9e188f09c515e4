"""The headline of the report: one sentence on the search and a row of cards with its main results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from autotune.figures.trial_points import families
from autotune.formatting.units import (
    counted,
    difference,
    duration,
    label,
    percent,
    quantity,
    si,
    with_interval,
    within_sentence,
)
from autotune.objectives import is_cost
from autotune.results.completion import budget_used
from autotune.results.confirmation_runs import is_as_search
from autotune.results.recommendation import recommend
from autotune.results.selection import best_trial
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics, quality, selection_bias
from autotune.sweep.schema import Sweep
from search_spaces.truncation import is_share_of_layers
from trials.reading.labels import label_text
from trials.tasks.model_spec import ModelSpec, model_labels

_OF_ONE_CLASS = ("f1", "precision", "recall", "average_precision", "roc_auc")
"""The scores of one class against all others, if the task has such a class."""


@dataclass(frozen=True)
class Fact:
    """One card of the headline: a name, a value in large type and a note under it."""

    name: str
    value: str
    note: str = ""


def _file_names(train: str | tuple[str, ...]) -> str:
    names = [Path(name).name for name in ([train] if isinstance(train, str) else train)]
    return names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'more file')}"


def summary(results: SweepTables) -> str:
    """Return one sentence that says what was searched."""
    sweep = results.sweep
    data = sweep.task.dataset or _file_names(sweep.task.train)
    names = [within_sentence(label(objective.name)) for objective in results.objectives]
    found = families(results)
    kinds = f" over {len(found)} adapter families ({', '.join(found)})" if len(found) > 1 else ""
    trials = int(budget_used(results)["trials"][0])
    return (
        f"{base_words(sweep.model)} on {data} ({sweep.task.type}): "
        f"{counted(trials, 'trial')}{kinds} for {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}."
        f"{positive_words(sweep)}"
    )


def positive_words(sweep: Sweep) -> str:
    """Return a sentence with the class that scores are of, after a space; empty where no score of one is compared."""
    compared = {sweep.task.metric, *(objective.name for objective in sweep.objectives)}
    names = [label(name) for name in _OF_ONE_CLASS if name in compared]
    if sweep.task.positive is None or not names:
        return ""
    listed = " and ".join([names[0], *map(within_sentence, names[1:])])
    verb = "is that" if len(names) == 1 else "are those"
    return f" {listed} {verb} of class {label_text(sweep.task.positive)!r}."


def base_words(model: ModelSpec) -> str:
    """Return the base model of a sweep, or those that its configurations choose among."""
    name = model_words(model.name)
    if model.choices is None:
        return name if model.layers is None else f"{name} with {model.layers} of its layers"
    *smaller, last = model_labels(model.choices)
    listed = f"{', '.join(smaller)} or {last}"
    return f"{name} with {listed} of its layers" if all(map(is_share_of_layers, model.choices)) else listed


def model_words(name: str) -> str:
    """Return a hub id as it is, and the last two parts of a folder's path."""
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def headline(results: SweepTables) -> list[Fact]:
    """Return the cards at the top of the report."""
    return [
        _best_fact(results),
        *_front_facts(results),
        _budget_fact(results),
        _seeds_fact(results),
    ]


def _front_facts(results: SweepTables) -> list[Fact]:
    """Return the cards of the recommended point and of the front; with one objective the best trial is both."""
    recommended = _recommended_fact(results)
    if results.has_single_objective:
        return [recommended] if recommend(results, results.front).trial is None else []
    words = f"hypervolume: {percent(results.hypervolume)} of the box between ideal and reference"
    return [recommended, Fact("Front", counted(len(results.front), "point"), words)]


def _best_fact(results: SweepTables) -> Fact:
    best = quality(results)
    name = f"Best {within_sentence(label(best.name))}"
    found = confirmation_statistics(results, best.name)
    found = found[found.index.isin(results.front["trial"])]
    if found.empty:
        front = results.front
        if front.empty:
            return Fact(name, "–", "no trial is on the front")
        row = front.iloc[int(np.argmin(best.loss(front[best.name])))]
        note = f"trial {row['trial']}, one search seed, not confirmed: biased upward by selection"
        return Fact(f"{name}, search value", quantity(best.name, row[best.name]), note)
    trial = best_trial(results, results.front)
    one = found.loc[[trial]].iloc[0]
    notes = [f"trial {trial}", f"mean of {counted(int(one['seeds']), 'report seed')}"]
    if not math.isnan(one["test"]):
        notes.append(f"test {quantity(best.name, one['test'])}")
    return Fact(f"{name}, confirmed", interval_text(best.name, one), ", ".join(notes))


def _recommended_fact(results: SweepTables) -> Fact:
    found = recommend(results, results.front)
    name = "Recommended: the knee" if found.is_knee else "Recommended"
    if found.trial is None:
        return Fact(name, "–", found.reason)
    row = results.front.set_index("trial").loc[found.trial].to_dict()
    parts = []
    for objective in results.objectives:
        name_of, means = objective.name, confirmation_statistics(results, objective.name)["mean"]
        has_mean = not is_cost(name_of) and found.trial in means.index
        shown = (
            f"{quantity(name_of, means[found.trial])} confirmed"
            if has_mean
            else quantity(name_of, row[name_of])
        )
        parts.append(f"{within_sentence(label(name_of))} {shown}")
    return Fact(name, f"trial {found.trial}", f"{', '.join(parts)}; {found.reason}")


def _budget_fact(results: SweepTables) -> Fact:
    budget, used = results.sweep.budget, budget_used(results)
    limit = f" of {budget.trials}" if budget.trials is not None else ""
    notes = [f"{duration(results.search_seconds)} of search"]
    if budget.hours is not None:
        notes[0] += f" (limit {duration(3600 * budget.hours)})"
    if "cost.train_flops" in results.trials:
        words = si(used["flops"][0], "FLOPs")
        if results.ladder is not None and math.isfinite(results.ladder.used):
            words += f", {percent(results.ladder.used)} of full training"
        notes.append(words if budget.flops is None else f"{words} (limit {si(budget.flops, 'FLOPs')})")
    if not results.confirmations.empty:
        seconds = duration(float(results.confirmations["elapsed"].max()))
        seeds = results.confirmations.groupby("trial").size()
        each = f"{seeds.min()}" if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}"
        runs = counted(len(results.confirmations), "confirmation run")
        notes.append(f"then {runs}, {seconds}: {counted(len(seeds), 'point')}, {each} seeds each")
    return Fact("Budget used", f"{used['trials'][0]:.0f}{limit} trials", ", ".join(notes))


def _seeds_fact(results: SweepTables) -> Fact:
    search = set(results.trials["seed"].dropna())
    report = set(results.confirmations["seed"]) if not results.confirmations.empty else set()
    shared = len(search & report)
    note = "none is in both" if not shared else f"{shared} in both: confirmed values are not independent"
    counts = f"{counted(len(search), 'search seed')}, {counted(len(report), 'report seed')}"
    return Fact("Seeds", f"{len(search)} + {len(report)}", f"{counts}; {note}")


def interval_text(name: str, row: pd.Series) -> str:
    """Return a confirmed mean with its interval; see `with_interval`.

    Args:
        name: of the score.
        row: of `autotune.results.tables.confirmation_statistics`.
    """
    return with_interval(name, row["mean"], row["low"], row["high"])


def mean_selection_bias(results: SweepTables) -> str:
    """Return the mean selection bias of the confirmed points of the search's front as text.

    It is empty without any, and where the runs have another fidelity, whose scores differ for other reasons.
    """
    if not is_as_search(results.confirmations):
        return ""
    best = quality(results)
    found = confirmation_statistics(results, best.name)
    found = found[found.index.isin(results.search_front["trial"])]
    searched = results.trials.set_index("trial")[best.name].reindex(found.index)
    gaps = [
        selection_bias(best, s, m) for s, m in zip(searched, found["mean"], strict=True) if not math.isnan(s)
    ]
    return difference(best.name, float(np.mean(gaps))) if gaps else ""
