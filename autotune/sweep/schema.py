"""The content of a sweep file: model, task, search space, objectives and budget of a search, validated on load."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core.core_schema import ValidationInfo

from autotune.ladder.spec import LadderSpec, read_ladder
from autotune.objectives import MEASURED_COSTS, Objective
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.executor_spec import ExecutorSpec, check_devices
from autotune.sweep.fidelity_field import FIDELITY_FIELDS, check_examples, read_fidelity
from autotune.sweep.generated_scores import with_generated_scores
from autotune.sweep.objective_shorthand import expand_objectives
from autotune.sweep.prior_spec import Priors, check_priors, read_priors, with_model_choice
from autotune.sweep.sampler_spec import (
    NamedSamplerSpec,
    ParetoSpec,
    check_objectives,
    read_sampler,
)
from autotune.sweep.start_spec import read_start_from, read_tries, start_fields
from autotune.sweep.validation_errors import problems_of
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.language.loader import is_preset, load_space
from search_spaces.parameters.preference import ON_PREFERENCES
from trials.records import Fidelity
from trials.tasks.metrics import METRICS, default_metric
from trials.tasks.own_code import as_reference
from trials.tasks.score_specs import FurtherSet, OwnScore
from trials.tasks.specs import ModelSpec, TaskSpec, TrialTask

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _named(value: object) -> object:
    """Expand the short form, a name without other fields."""
    return {"name": value} if isinstance(value, str) else value


class Sweep(BaseModel):
    """A search, complete and consistent.

    Args:
        name: Name of the sweep; it must be usable as a folder's name.
        model: Base model.
        task: Task, data and metric.
        space: Name of a preset, a file, or the search space itself.
        objectives: One to four objectives; by default the task's metric and the trainable parameters.
        budget: Limits at which the search ends.
        fidelity: Amount of data and evaluation of a trial; `all` for all data. By default it is chosen when the sweep
            starts, from the budget, the FLOPs of a trial and the measured speed.
        ladder: Rungs on which weak trials end early; none by default.
        sampler: Component that proposes configurations.
        priors: Priors on good values of parameters; none by default.
        executor: Where trials run, and how many at a time; by default it is chosen when the sweep starts, from the
            measured speed, and is `local` where nothing is measured.
        seed: Seed of the search. Trials and confirmation runs derive their seeds from it and never share one.
        confirm: Confirmation of the front after the search.
        try_: Configurations to train first, each a mapping such as `{family: lora, lora.rank: 8}`; parameters that it
            does not name take the defaults of the space.
        start_from: Folders of earlier sweeps, on other tasks or models. Their fronts are trained first, and the
            sampler learns from their trials.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str
    model: Annotated[ModelSpec, BeforeValidator(_named)]
    task: TaskSpec
    space: dict[str, Any] = Field(default="lora", validate_default=True)
    objectives: tuple[Objective, ...]
    budget: Budget
    fidelity: Annotated[Fidelity, BeforeValidator(read_fidelity)] = Fidelity()
    ladder: Annotated[LadderSpec | None, BeforeValidator(read_ladder)] = None
    sampler: Annotated[ParetoSpec | NamedSamplerSpec, BeforeValidator(read_sampler)] = ParetoSpec()
    priors: Annotated[Priors | None, BeforeValidator(read_priors)] = None
    executor: Annotated[ExecutorSpec, BeforeValidator(_named)] = ExecutorSpec()
    seed: int = Field(default=0, ge=0, strict=True)
    confirm: Confirm = Confirm()
    try_: Annotated[tuple[dict[str, Any], ...], BeforeValidator(read_tries)] = Field(default=(), alias="try")
    start_from: Annotated[tuple[str, ...], BeforeValidator(read_start_from)] = ()

    @property
    def is_fidelity_open(self) -> bool:
        """Whether the fidelity is still to be chosen: neither the sweep's author nor an earlier start has set it."""
        return "fidelity" not in self.model_fields_set

    @property
    def is_executor_open(self) -> bool:
        """Whether the executor is still to be chosen; a model on several devices leaves no choice."""
        return "executor" not in self.model_fields_set and self.model.device_map is None

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            fix = "Use letters, digits, '-', '_' and '.', starting with a letter or digit."
            raise InvalidInputError(Problem("name", f"{name!r} is not a valid name of a folder", fix))
        return name

    @model_validator(mode="after")
    def _parameters_of_loss(self) -> Sweep:
        """Refuse parameters of a preference loss in a sweep that has none."""
        unused = [name for name in ON_PREFERENCES if name in self.space["parameters"]]
        if self.task.loss is None and unused:
            raise InvalidInputError(
                [
                    Problem(
                        f"space.parameters.{n}", f"has no effect on {self.task.type}", f"Remove it. {why}"
                    )
                    for n, why in ON_PREFERENCES.items()
                    if n in unused
                ]
            )
        return self

    @model_validator(mode="after")
    def _one_number_of_examples(self) -> Sweep:
        check_examples(self.fidelity, self.space)
        return self

    @model_validator(mode="after")
    def _smaller_bases(self) -> Sweep:
        if self.ladder is None:
            return self
        self.ladder.check_below(self.model.name)
        if self.model.choices is not None and self.ladder.of == "base":
            what = "base: models cannot be rungs and choices of a configuration at once"
            fix = "Write of: training (or data, length), or remove model.choices."
            raise InvalidInputError(Problem("ladder.of", what, fix))
        return self

    @model_validator(mode="after")
    def _one_rule_of_stopping(self) -> Sweep:
        """Refuse early stopping beside a ladder, which ends weak trials itself and compares them at its rungs."""
        if self.ladder is None or not self.fidelity.selects_evaluations:
            return self
        key = "patience" if self.fidelity.patience is not None else "score"
        fix = f"Remove ladder, or remove fidelity.{key}."
        raise InvalidInputError(Problem(f"fidelity.{key}", "cannot be combined with a ladder", fix))

    @model_validator(mode="after")
    def _fitting_priors(self) -> Sweep:
        if self.priors is not None:
            space = load_space(self.space, loss=self.task.loss).space
            check_priors(self.priors, with_model_choice(space, self.model.choices), self.sampler)
        return self

    @model_validator(mode="after")
    def _fitting_parts(self) -> Sweep:
        check_objectives(self.sampler, len(self.objectives))
        check_devices(self.executor, self.model)
        return self

    @model_validator(mode="after")
    def _measurable(self) -> Sweep:
        """Refuse measured costs with packed execution, where trials share time and memory."""
        problems = [
            Problem(
                f"objectives[{i}]",
                f"{objective.name!r} cannot be measured per trial with packed execution",
                "Write executor: local (or processes), or use the objective train_flops or trainable_params.",
            )
            for i, objective in enumerate(self.objectives)
            if self.executor.name == "packed" and objective.name in MEASURED_COSTS
        ]
        if problems:
            raise InvalidInputError(problems)
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_objectives(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        if data.get("objectives") is None:
            data = {**data, "objectives": [_metric_of(data.get("task")), "trainable_params"]}
        return with_generated_scores(data)

    @field_validator("space", mode="before")
    @classmethod
    def _spell_space_out(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str | Path | Mapping):
            fix = "Write the name of a preset, the path of a file, or a mapping of families and parameters."
            raise InvalidInputError(Problem("space", f"{value!r} is not a search space", fix))
        try:
            return load_space(value, loss=getattr(info.data.get("task"), "loss", None)).spec
        except InvalidInputError as error:
            raise InvalidInputError([_in_space(problem, value) for problem in error.problems]) from None

    @field_validator("objectives", mode="wrap")
    @classmethod
    def _read_objectives(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> tuple[Objective, ...]:
        task = info.data.get("task")
        task_type = task.type if task is not None else (info.context or {}).get("task_type")
        expanded, problems = expand_objectives(value, task_type, task)
        try:
            objectives = handler(expanded)
        except ValidationError as error:
            problems += problems_of(error, expanded, FIELDS, EXAMPLES, inside=("objectives",))
        if problems:
            raise InvalidInputError(problems)
        return objectives


FIELDS: dict[str, list[str]] = {
    "": start_fields(Sweep.model_fields),
    "model": list(ModelSpec.model_fields),
    "task": [name for name, field in TaskSpec.model_fields.items() if not field.exclude],
    **{f"task.{key}": [*model.model_fields] for key, model in (("scores", OwnScore), ("also", FurtherSet))},
    "objectives": [field for field in Objective.model_fields if field != "derived"],
    "budget": [*Budget.model_fields, "minutes"],
    "fidelity": FIDELITY_FIELDS,
    "executor": list(ExecutorSpec.model_fields),
    "confirm": list(Confirm.model_fields),
}
EXAMPLES = {
    "model": "Write model: roberta-base (a Hugging Face model id, or a folder).",
    "task": "Write task: {train: train.tsv, text: sentence, label: label}.",
    "budget": "Write budget: {trials: 30}.",
    "model.name": "Write name: roberta-base (a Hugging Face model id, or a folder).",
    "name": "Write name: reviews.",
}


def _metric_of(task: object) -> str:
    if isinstance(task, TaskSpec):
        return task.metric
    named = task.get("metric") if isinstance(task, Mapping) else None
    is_known = isinstance(named, str) and (named in (*METRICS, "eval_loss") or as_reference(named))
    return str(named) if is_known else default_metric(task_type_of(task))


def task_type_of(task: object) -> str | None:
    """Return the task's type in the file, or None if it is not a valid type."""
    if not isinstance(task, Mapping):
        return None
    given = task.get("type", TaskSpec.model_fields["type"].default)
    return given if given in get_args(TrialTask) else None


def _in_space(problem: Problem, space: str | Path | Mapping[str, Any]) -> Problem:
    """Return a problem of a space with its path in the sweep file, or in the file of the space."""
    if isinstance(space, Mapping):
        where = f"space.{problem.where}"
    elif isinstance(space, str) and is_preset(space):
        where = "space"
    else:
        where = problem.where if problem.where.startswith(str(space)) else f"{space}: {problem.where}"
    return Problem(where, problem.what, problem.fix)
