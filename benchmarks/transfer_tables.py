"""The tables of `benchmarks.transfer`: trials to a share of the reference hypervolume, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy.stats import kendalltau, spearmanr

from autotune.objectives import Objective, unit_losses
from autotune.pareto import hypervolume
from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from autotune.sampler.sources import source_trust
from benchmarks.result_files import Table
from benchmarks.transfer_trials import SOURCE, TARGETS, Setting, TrialTable, sweep_of
from search_spaces.parameters.types import Configuration
from trials.records import TrialStatus

Array = NDArray[np.float64]

SHARE = 0.9
BASELINE = "cold"
NAMES = {"sst2": "SST-2", "cr": "CR", "trec": "TREC"}
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Trust:
    """How far the surrogates of a search relied on its source.

    Args:
        proposals: Proposals before which the agreement was measured.
        dropped: Those in which the source was dropped.
        weight: Mean weight of the source over these proposals.
        agreement: Kendall's rank correlation of the source with the trials at the last proposal.
    """

    proposals: int
    dropped: int
    weight: float
    agreement: float


@dataclass(frozen=True)
class Search:
    """A finished search.

    Args:
        arm: Name of the arm.
        task: Name of the target.
        seed: Seed of the sweep and of its source.
        volumes: Hypervolume after 1, 2, … trials, as a share of the box between the objectives' bounds.
        trust: How far it relied on its source; None without one.
        seconds: Processor seconds, those of training runs that the table lacked among them.
        commit: Commit of the measured code.
        processor: Name of the processor.
        versions: Versions of packages.
    """

    arm: str
    task: str
    seed: int
    volumes: tuple[float, ...]
    trust: Trust | None = None
    seconds: float = 0.0
    commit: str = ""
    processor: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """Rebuild a search from stored data."""
        trust = data.get("trust")
        return cls(**{**data, "volumes": tuple(data["volumes"]), "trust": trust and Trust(**trust)})

    def trials_to(self, volume: float) -> float:
        """Return the number of trials to a hypervolume; infinite if the search ended below it."""
        return next((float(n) for n, reached in enumerate(self.volumes, 1) if reached >= volume), math.inf)


def volume_of(objectives: Sequence[Objective], values: Array) -> float:
    """Return the hypervolume of objective values, shape [n, m], as a share of the box between the bounds."""
    return hypervolume(unit_losses(objectives, values), np.ones(len(objectives)))


def trust_of(trials: Sequence[FrozenTrial]) -> Trust | None:
    """Return how far a search relied on its source, by its trials; None without a source."""
    found = [trust for trial in trials if (trust := source_trust([trial]).get(0)) is not None]
    measured = [(each, a) for each in found if (a := next(iter(each.agreement.values()))) is not None]
    if not measured:
        return None
    weights = [sum(each.weights.values()) for each, _ in measured]
    dropped = sum(bool(each.dropped) for each, _ in measured)
    return Trust(len(measured), dropped, float(np.mean(weights)), measured[-1][1])


def trust_table(found: Sequence[Search]) -> Table:
    """Return one row per target."""
    rows = []
    for task in TARGETS:
        own = [each.trust for each in found if each.task == task and each.trust is not None]
        if not own:
            continue
        proposals, dropped = sum(each.proposals for each in own), sum(each.dropped for each in own)
        weights, agreements = [each.weight for each in own], [each.agreement for each in own]
        rows.append(
            (NAMES[task], f"{dropped} of {proposals}", _range(weights), _range(agreements), str(len(own)))
        )
    caption = (
        "Surrogate of accuracy in the arm `start`, in the proposals after the fifth trial; weight and correlation "
        "are medians over the seeds, lowest and highest in brackets. The study's own process has the rest, "
        "at least 0.3."
    )
    columns = ("target", "proposals without the source", "mean weight of the source",
               "Kendall's τ-b with the trials at the end", "seeds")  # fmt: skip
    return Table(caption, columns, tuple(rows))


def _range(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@dataclass(frozen=True)
class Ratio:
    """Ratios of an arm to the baseline over the seeds that both have.

    Args:
        median: Median over the seeds; infinite if the arm did not reach what is compared in half of them.
        likely: Ends of the 80 % bootstrap interval of the median.
        ends: Ends of the 95 % interval.
    """

    median: float
    likely: tuple[float, float]
    ends: tuple[float, float]

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """Summarize one ratio per seed; the bootstrap draws seeds."""
        found = np.array(ratios)
        draws = np.random.default_rng(0).integers(len(found), size=(_RESAMPLES, len(found)))
        medians = np.median(found[draws], axis=1)
        low, likely_low, likely_high, high = (
            float(np.quantile(medians, q, method="inverted_cdf")) for q in (0.025, 0.1, 0.9, 0.975)
        )
        return cls(float(np.median(found)), (likely_low, likely_high), (low, high))

    def __str__(self) -> str:
        return f"{_number(self.median)}; {_span(self.likely)}; {_span(self.ends)}"


def trial_ratio(arm: Search, baseline: Search, volume: float) -> float:
    """Return the trials of an arm to a hypervolume divided by those of the baseline.

    A baseline that ended below it counts with all its trials, which is too few, so the ratio is at least the true
    one; an arm that ended below it has an infinite ratio.
    """
    return arm.trials_to(volume) / min(baseline.trials_to(volume), float(len(baseline.volumes)))


def reference_values(
    task: str, table: TrialTable, configs: Sequence[Configuration], setting: Setting
) -> Array:
    """Return the objective values of all configurations with a complete run, shape [n, m]."""
    prepared = prepared_for(task, setting)
    results = [(config, table.get(task, config)) for config in configs]
    return np.array(
        [prepared.values(c, r) for c, r in results if r is not None and r.status == TrialStatus.COMPLETE]
    )


def prepared_for(task: str, setting: Setting) -> PreparedSweep:
    """Return the prepared sweep of a task; its objectives have their bounds."""
    return prepare(sweep_of(task, 0, setting))


def transfer_table(
    found: Sequence[Search], table: TrialTable, configs: Sequence[Configuration], setting: Setting
) -> Table:
    """Return one row per target and arm."""
    rows = []
    references = {task: _reference(task, table, configs, setting) for task in TARGETS}
    for task, reference in references.items():
        baseline = {each.seed: each for each in found if (each.task, each.arm) == (task, BASELINE)}
        for arm in dict.fromkeys(each.arm for each in found if each.task == task):
            own = {each.seed: each for each in found if (each.task, each.arm) == (task, arm)}
            rows.append((NAMES[task], f"`{arm}`", *_cells(own, baseline, reference)))
    columns = ("target", "arm", f"seeds that reached {SHARE:.0%}", f"trials to {SHARE:.0%}",
               f"ratio of trials to `{BASELINE}`", "hypervolume at a quarter, half and end", 
               f"ratio of the end to `{BASELINE}`")  # fmt: skip
    seeds = sorted({each.seed for each in found})
    caption = (
        f"{len(seeds)} seeds, {setting.trials} trials each. Hypervolume is a share of that of all {len(configs)} "
        "configurations. Trials: median over the seeds, lowest and highest in brackets; `>` where a seed did not "
        "reach it. Ratios: median over the seeds; 80 % bootstrap interval; 95 % interval. A baseline that did not "
        "reach the share counts with all its trials, an arm that did not has the ratio ∞."
    )
    return Table(caption, columns, tuple(rows))


def _reference(task: str, table: TrialTable, configs: Sequence[Configuration], setting: Setting) -> float:
    values = reference_values(task, table, configs, setting)
    return volume_of(prepared_for(task, setting).sweep.objectives, values)


def _cells(own: Mapping[int, Search], baseline: Mapping[int, Search], reference: float) -> tuple[str, ...]:
    """Return the cells of an arm on a target."""
    level = SHARE * reference
    trials = sorted(search.trials_to(level) for search in own.values())
    most = max(len(search.volumes) for search in own.values())
    reached = sum(math.isfinite(each) for each in trials)
    pairs = [(own[seed], baseline[seed]) for seed in sorted(own.keys() & baseline.keys())]
    ratios = Ratio.of([trial_ratio(*pair, level) for pair in pairs])
    ends = Ratio.of([arm.volumes[-1] / cold.volumes[-1] for arm, cold in pairs])
    shares = [
        np.median([search.volumes[round(part * len(search.volumes)) - 1] for search in own.values()])
        / reference
        for part in (0.25, 0.5, 1.0)
    ]
    median = float(np.median(trials))
    shown = [f"{each:g}" if math.isfinite(each) else f"> {most}" for each in (median, trials[0], trials[-1])]
    is_baseline = all(arm is cold for arm, cold in pairs)
    return (
        f"{reached} of {len(own)}",
        f"{shown[0]} ({shown[1]} to {shown[2]})",
        "1" if is_baseline else str(ratios),
        ", ".join(f"{share:.3f}" for share in shares),
        "1" if is_baseline else str(ends),
    )


def agreement_table(table: TrialTable, configs: Sequence[Configuration], setting: Setting) -> Table:
    """Return the rank agreement of the accuracies of each pair of tasks."""
    tasks = (SOURCE, *TARGETS)
    scores = {task: [_accuracy(table, task, config) for config in configs] for task in tasks}
    rows = []
    for first, second in combinations(tasks, 2):
        pairs = np.array(
            [pair for pair in zip(scores[first], scores[second], strict=True) if not np.isnan(pair).any()]
        )
        kendall, spearman = kendalltau(*pairs.T).statistic, spearmanr(*pairs.T).statistic
        best = np.argsort(-pairs[:, 0], kind="stable")[: len(pairs) // 4]
        top = set(np.argsort(-pairs[:, 1], kind="stable")[: len(pairs) // 4].tolist())
        kept = np.mean([i in top for i in best.tolist()])
        rows.append(
            (f"{NAMES[first]} and {NAMES[second]}", f"{kendall:.2f}", f"{spearman:.2f}", f"{kept:.0%}",
             str(len(pairs)))
        )  # fmt: skip
    caption = (
        "Accuracy on validation data of the same configurations on two tasks, each with its own training seed. "
        "`best quarter shared`: configurations of the best quarter on both tasks, as a share of a quarter; 25 % is "
        "chance."
    )
    columns = ("tasks", "Kendall's τ-b", "Spearman's ρ", "best quarter shared", "configurations")
    return Table(caption, columns, tuple(rows))


def _accuracy(table: TrialTable, task: str, config: Configuration) -> float:
    result = table.get(task, config)
    return math.nan if result is None else result.metrics.get("accuracy", math.nan)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "∞"


def _span(ends: tuple[float, float]) -> str:
    return f"{_number(ends[0])} to {_number(ends[1])}"
