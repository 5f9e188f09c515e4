"""What a task says about further scores: those of the user's own code, and those on further data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.costs.cost_model import KNOWN_COSTS
from search_spaces.errors import Problem
from trials.kinds.kind import Direction, Metric
from trials.kinds.registry import KINDS, find_kind
from trials.tasks.metrics import METRICS, metric_of, metrics_for

_SAME_HEAD = {("causal-lm", "preference")}
"""Kinds (of a further set, of the task) that differ and have the same head."""


class OwnScore(BaseModel):
    """Direction and bounds of a score that the user's own code computes.

    Args:
        name: Name of the score: `module:function`, or a name in the mapping that the function returns.
        direction: Which way is better: `maximize` or `minimize`.
        best: Best possible value, if there is one.
        worst: Worst possible value, if there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    direction: Direction
    best: float | None = None
    worst: float | None = None

    @property
    def metric(self) -> Metric:
        """The properties as those of any other score."""
        return Metric(self.direction, self.best, self.worst)


class FurtherSet(BaseModel):
    """A further data set that every trial is scored on at its end, such as one that shows what a model forgets.

    The columns and the maximum length are those of the task, unless others are named.

    Args:
        name: Name of the score. Where the base model comes with the head of the task (causal-lm), NAME_forgetting is
            how much worse the trial is than the base model, which has 0.
        data: A file, a list of files, or a folder with one split; with `dataset`, the name of a split.
        dataset: Hub id or local folder of a data set.
        metric: The score: a metric of the set's type.
        type: Kind of task of the set; by default that of the task. A set of another kind needs the same head.
        text: Text columns, as in `task`.
        label: Column of labels, as in `task`; the classes are those of the task.
        prompt: Prompts, as in `task`.
        completion: Completions, as in `task`.
        messages: Column of chats, as in `task`.
        max_length: Tokens after which an example is cut.
        limit: Maximum number of examples, a random part that is the same for every trial; null for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    data: str | tuple[str, ...]
    dataset: str | None = None
    metric: str
    type: str | None = None
    text: str | tuple[str, ...] | None = None
    label: str | None = None
    prompt: str | tuple[str, ...] | None = None
    completion: str | tuple[str, ...] | None = None
    messages: str | None = None
    max_length: int | None = Field(default=None, ge=2)
    limit: int | None = Field(default=500, ge=1)

    @property
    def forgetting(self) -> str:
        """The name of the score of what the model forgets."""
        return f"{self.name}_forgetting"

    def columns(self) -> dict[str, Any]:
        """Return the columns that the set names itself."""
        named = {
            field: getattr(self, field) for field in ("text", "label", "prompt", "completion", "messages")
        }
        return {field: value for field, value in named.items() if value is not None}


def further_metrics(sets: Sequence[FurtherSet], task_type: str) -> dict[str, Metric]:
    """Return the properties of the scores of further data sets, by name."""
    found = {each.name: metric_of(each.metric) for each in sets}
    if find_kind(task_type).base_has_head:
        found |= {each.forgetting: Metric("minimize", None) for each in sets}
    return found


def further_problems(sets: Sequence[FurtherSet], task_type: str) -> list[Problem]:
    """Return what is wrong with further data sets for the model of a task."""
    problems, names = [], list[str]()
    taken = {*METRICS, "eval_loss", *KNOWN_COSTS, "head_params", "train_seconds", "peak_memory"}
    for i, each in enumerate(sets):
        where, kind = f"task.also[{i}]", each.type or task_type
        if each.name in taken or each.name in names:
            fix = "Give the set another name, such as general."
            problems.append(Problem(f"{where}.name", f"{each.name!r} is the name of another score", fix))
        names.append(each.name)
        if kind not in KINDS:
            fix = f"Use one of: {', '.join(KINDS)}."
            problems.append(Problem(f"{where}.type", f"{kind!r} is not a kind of task", fix))
        elif kind != task_type and (kind, task_type) not in _SAME_HEAD:
            what = f"a model with the head of {task_type} cannot score {kind}"
            problems.append(Problem(f"{where}.type", what, f"Use data of {task_type}, or remove the set."))
        elif each.metric not in metrics_for(kind):
            known, reason = each.metric in METRICS, ""
            if known and each.metric in KINDS["causal-lm"].metrics:
                reason = f": the model of {kind} has no head that predicts the next token"
            what = f"{each.metric!r} " + (f"does not score {kind}{reason}" if known else "is not a metric")
            problems.append(Problem(f"{where}.metric", what, f"Use one of: {', '.join(metrics_for(kind))}."))
    return problems
