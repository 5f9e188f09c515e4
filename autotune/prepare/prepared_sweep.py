"""Preparing a sweep: data, space, costs, and the bounds of the objectives, fixed before the first trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from autotune.calibrate.choice import calibrate
from autotune.estimate.fidelity import choose_fidelity
from autotune.objectives import BOUNDS, KNOWN_COSTS, MEASURED_COSTS, Objective, is_cost
from autotune.prepare.base_rungs import BaseRungs
from autotune.prepare.bound_base import bind_base
from autotune.prepare.hard_limits import HardLimits, Possibility
from autotune.prepare.model_choices import ModelChoices
from autotune.prepare.own_scores import own_baseline
from autotune.prepare.partial_runs import partial_share
from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.feasible_sampling import draw_feasible, sample_feasible
from autotune.sampler.small_space import SmallSpace, small_space
from autotune.sweep.sampler_spec import ParetoSpec
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel, Costs
from search_spaces.costs.model_costs import ModelCosts
from search_spaces.errors import InvalidInputError
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.types import Configuration, Value
from search_spaces.percentages import parse_percentage
from search_spaces.space import SearchSpace
from trials.data.task_data import TaskData, resolved_task
from trials.kinds.kind import Metric
from trials.kinds.registry import find_kind
from trials.records import PartialRun, TrialResult
from trials.scoring.groups import group_names
from trials.tasks.score_specs import further_metrics
from trials.training.evaluation import without_model
from trials.training.further import load_further

_PROBES = 2_000
"""The number of random configurations that the range of the known costs is read from."""
_FEW_PROBES = 100
"""If limits exclude all but fewer of them, more are drawn within the limits."""


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep that can start.

    Args:
        sweep: resolved: precision and fidelity are chosen, the task names its positive class, and every objective
            has numbers for its limits and, where they can be known, its reference, ideal and floor.
        data: the tokenized task.
        shape: of the base model.
        space: bound to the base model, with the choice of the model where the sweep searches it.
        costs: returns the known costs of a configuration on the model that it chooses.
        baselines: scores on validation that need no adapter, by name.
        limits: the space's constraints and the objectives' limits on known costs.
        bases: the smaller base models of the ladder; empty for every other ladder.
        choices: the base models that the search chooses from.
        notes: facts about the data, the space and the ladder, in sentences for the user.
        warnings: facts about the data that the user should act on, in sentences.
    """

    sweep: Sweep
    data: TaskData
    shape: ModelShape
    space: SearchSpace
    costs: CostModel | ModelCosts
    baselines: dict[str, float]
    limits: HardLimits
    bases: BaseRungs
    choices: ModelChoices
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[float | None, ...]:
        """The worst value of interest of each objective for which the sweep's author gave one, else None.

        A derived reference (the majority class, say) bounds the hypervolume that is reported, but is so far below
        every trained model that the search learns nothing from configurations that improve on it. This does not hold
        where the numbers of training examples are searched: the cheapest runs learn nothing, and a search without the
        reference would spend its trials on the cheapest of them.
        """
        searches_examples = TRAIN_SAMPLES.name in self.space
        return tuple(
            (each if searches_examples and not is_cost(each.name) else each.as_given()).reference
            for each in self.sweep.objectives
        )

    def broken_limits(self, config: Mapping[str, Value]) -> str | None:
        """Return a sentence with the hard limits that a configuration breaks, or None."""
        return self.limits.violations(config)

    def random_configuration(self, seed: int) -> Configuration:
        """Return a random configuration that keeps the limits; `prepare` has checked that one exists."""
        return sample_feasible(self.space, self.limits, 1, np.random.default_rng(seed))[0]

    def run_configuration(self, part: PartialRun | None, config: Configuration) -> Configuration:
        """Return the configuration of a run: transferred to the run's base model, or to the one that it chooses."""
        if part is not None and part.model is not None:
            return self.bases.transfer(config, part.model)
        return self.choices.configuration(config)

    def share(self, part: PartialRun | None, config: Configuration) -> float:
        """Return the training FLOPs of a configuration's partial run, as a share of those of its full run."""
        if part is not None and part.model is not None:
            return self.bases.share(config, part.model)
        return partial_share(part, config, self.costs, self.sweep.task)

    def values(self, config: Mapping[str, Value], result: TrialResult) -> list[float]:
        """Return the objectives of a complete trial, in the sweep's order."""
        costs = self.costs(config)
        found = {**result.metrics, "train_seconds": result.train_seconds, "peak_memory": result.peak_memory}
        return [
            float(getattr(costs, objective.name) if objective.known else found[objective.name])
            for objective in self.sweep.objectives
        ]

    @cached_property
    def small_space(self) -> SmallSpace | None:
        """The configurations within the limits, if they are so few that a search may try all of them."""
        return small_space(self.space, self.limits if len(self.limits) else None)

    @property
    def ends_when_tried(self) -> bool:
        """Whether the search ends when each configuration was trained; not if the sampler is told to repeat some."""
        sampler = self.sweep.sampler
        repeats = isinstance(sampler, ParetoSpec) and bool(sampler.resample)
        return self.small_space is not None and not repeats

    @cached_property
    def cost_names(self) -> tuple[str, ...]:
        """The names of the known costs."""
        return (*KNOWN_COSTS, "head_params")

    def cost_table(self, config: Mapping[str, Value]) -> dict[str, float]:
        """Return every known cost of a configuration, by name."""
        costs = self.costs(config)
        return {name: float(getattr(costs, name)) for name in self.cost_names}


def prepare(sweep: Sweep) -> PreparedSweep:
    """Load the data, read the model's shape, bind the space and fix the bounds of the objectives; see `bind_base`.

    Nothing is written. The result depends on nothing but the sweep, so a resumed sweep is prepared in the same way;
    but a precision and a fidelity that the sweep leaves open depend on the machine, and are kept by the folder.

    Raises:
        InvalidInputError: the model, data, space or limits make the sweep impossible.
    """
    own = bind_base(sweep)
    calibration = calibrate(sweep, own.data, own.space, own.costs)
    sweep = sweep.model_copy(update={"model": calibration.model, "executor": calibration.executor})
    choices, chosen = ModelChoices.read(sweep, own), None
    if sweep.is_fidelity_open:
        chosen = choose_fidelity(sweep, own.data, choices.space, choices.costs)
    if chosen is not None:
        sweep = sweep.model_copy(update={"fidelity": chosen.fidelity})
        own = bind_base(sweep)
        choices = ModelChoices.read(sweep, own)
    data, shape, loaded = own.data, own.shape, own.loaded
    bases = BaseRungs.read(sweep, own)
    possibility = Possibility(choices.problem) if sweep.model.choices else None
    limits = HardLimits(loaded.constraints, sweep.objectives, choices.costs, possibility)
    probes = _probe(choices.space, choices.costs, limits, sweep.seed)
    baseline = {**without_model(data, sweep.task.type), **own_baseline(sweep, data)}
    objectives = [
        _resolve(objective, sweep.task.metrics, shape, probes, baseline) for objective in sweep.objectives
    ]
    resolved = sweep.model_copy(
        update={
            "task": resolved_task(sweep.task, data),
            "objectives": tuple(objectives),
            "ladder": bases.resolve(sweep.ladder),
        }
    )
    notes_of_sets = [note for each in load_further(sweep.task, data) for note in each.notes]
    kind = find_kind(sweep.task.type)
    baselines = {kind.constant_name: baseline[sweep.task.metric]} if baseline else {}
    left_out = [f"{family} left out: {reason}" for family, reason in loaded.left_out.items()]
    narrowed = [f"{name}: {why}" for name, why in loaded.narrowed.items()]
    notes = (
        *data.notes,
        *_about_model(shape),
        *own.notes,
        *notes_of_sets,
        *left_out,
        *narrowed,
        *bases.notes,
        *choices.notes,
    )
    notes += calibration.notes
    warnings = data.warnings
    if chosen is not None:
        notes += (chosen.note,)
        warnings += (chosen.warning,) if chosen.warning else ()
    return PreparedSweep(
        sweep=resolved,
        data=data,
        shape=shape,
        space=choices.space,
        costs=choices.costs,
        baselines=baselines,
        limits=limits,
        bases=bases,
        choices=choices,
        notes=notes,
        warnings=warnings,
    )


def names_of_examples(prepared: PreparedSweep) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the classes, and of the groups of validation examples; empty without any."""
    data, groups = prepared.data, prepared.sweep.task.groups
    return data.class_names or (), [] if groups is None else group_names(data.raw["validation"][groups])


def _about_model(shape: ModelShape) -> list[str]:
    """Return notes on the parts of the head that the checkpoint of the base model lacks, and on its FLOPs."""
    kind = shape.model_type
    estimates = (
        f"model: the FLOPs of {kind} are estimates from the sizes of its matrices; they could not be counted"
    )
    return [*([estimates] if shape.flops_are_estimates else [])] + [
        f"model: the checkpoint has no weights of {name}; each trial initializes it from its seed and trains it "
        "with the head"
        for name in shape.new_head_parts
    ]


def with_base_score(prepared: PreparedSweep, metrics: Mapping[str, float]) -> PreparedSweep:
    """Return the sweep with the scores of the base model as baseline, for tasks that it can do without training.

    Args:
        prepared: the sweep, whose base model comes with the head of the task.
        metrics: scores of the base model without an adapter, on validation.
    """
    sweep = prepared.sweep
    # On further data the base model is often best, and is no worst value of interest.
    further = further_metrics(sweep.task.also, sweep.task.type)
    objectives = tuple(
        objective.model_copy(
            update={
                "reference": metrics[objective.name],
                "derived": (*(objective.derived or ()), "reference"),
            }
        )
        if objective.reference is None and objective.name in metrics and objective.name not in further
        else objective
        for objective in sweep.objectives
    )
    return dataclasses.replace(
        prepared,
        sweep=sweep.model_copy(update={"objectives": objectives}),
        baselines={"base without adapter": metrics[sweep.task.metric]},
    )


def _probe(
    space: SearchSpace, costs: CostModel | ModelCosts, limits: HardLimits, seed: int
) -> list[tuple[Configuration, Costs]]:
    """Draw random configurations that keep the limits.

    Returns:
        The configurations, the families' defaults first, and their costs.

    Raises:
        InvalidInputError: no configuration keeps the limits; with the nearest value that was found.
    """
    rng = np.random.default_rng(seed)
    configs = [*space.defaults(), *(space.sample(rng) for _ in range(_PROBES))]
    if len(limits):
        excess = limits(configs)
        configs = [config for config, row in zip(configs, excess, strict=True) if (row <= 0).all()]
        if len(configs) < _FEW_PROBES:
            columns = EncodedSpace(space)
            draw = draw_feasible(columns, limits, _FEW_PROBES, rng)
            if not configs and not len(draw.rows):
                raise InvalidInputError(limits.infeasibility(columns, draw.nearest, rng))
            configs += columns.configurations(draw.rows)
    return [(config, costs(config)) for config in configs]


def _resolve(
    objective: Objective,
    metrics: Mapping[str, Metric],
    shape: ModelShape,
    probes: Sequence[tuple[Configuration, Costs]],
    baseline: Mapping[str, float],
) -> Objective:
    """Replace percentages by numbers and derive the bounds that the sweep leaves open, where they can be known.

    The reference of a known cost is its largest value over the space within the limit, its ideal the smallest. The
    reference of a metric is the score of the baseline that needs no model. Measured costs get their bounds from the
    trials. The bounds that an earlier start of the same sweep derived are derived again, to the same values.
    """
    objective = objective.as_given()
    found: dict[str, Any] = {}
    for side in ("max", "min"):
        limit = getattr(objective, side)
        if isinstance(limit, str):
            share = parse_percentage(limit)
            assert share is not None, "the sweep file accepts no other text as a limit"
            found[side] = share * shape.base_parameters
    if objective.known:
        values = np.array([getattr(costs, objective.name) for _, costs in probes], dtype=float)
        values = values[values <= found.get("max", _number(objective.max, math.inf))]
        if values.size:
            positive = values[values > 0]
            floor = float(positive.min()) / 2 if positive.size else 1.0
            found["floor"] = objective.floor or (floor if (values == 0).any() else float(positive.min()))
            found["ideal"] = objective.ideal if objective.ideal is not None else float(values.min())
            # Limits may leave a single value; the reference is then twice as large.
            top = float(values.max()) if values.max() > found["ideal"] else 2 * abs(found["ideal"]) + 1.0
            found["reference"] = objective.reference if objective.reference is not None else top
    elif objective.name not in MEASURED_COSTS:
        if objective.reference is None and objective.name in baseline:
            found["reference"] = baseline[objective.name]
        if objective.ideal is None:
            found["ideal"] = metrics[objective.name].best
    left_open = (bound for bound in BOUNDS if getattr(objective, bound) is None)
    found["derived"] = tuple(bound for bound in left_open if found.get(bound) is not None) or None
    return objective.model_copy(update=found)


def _number(limit: float | str | None, otherwise: float) -> float:
    return otherwise if limit is None or isinstance(limit, str) else limit
