"""Further data sets: their examples, encoded like those of the task, and a trial's scores on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from weakref import WeakKeyDictionary

from torch import nn

from search_spaces.errors import InvalidInputError, Problem
from trials.base.model import Base
from trials.data.columns import check_columns, without_empty_rows
from trials.data.fingerprint import data_fingerprint
from trials.data.labels import check_label_types, read_targets
from trials.data.notes import Notes
from trials.data.sources import find_sources
from trials.data.task_data import TaskData, encode_split
from trials.kinds.registry import find_kind
from trials.reading.fingerprint import Fingerprint
from trials.reading.splits import read_source
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows
from trials.tasks.metrics import metric_of
from trials.tasks.score_specs import FurtherSet
from trials.tasks.specs import TaskSpec
from trials.training.evaluation import evaluate
from trials.training.references import with_references
from trials.training.subsets import subset

_LOADED: WeakKeyDictionary[nn.Module, tuple[TaskSpec, FurtherScores]] = WeakKeyDictionary()
"""The further sets of each base model of this process; one sweep runs in a process at a time."""
SPLIT = "validation"
"""The split under which the data of a further set have its examples."""


@dataclass(frozen=True)
class FurtherData:
    """A further data set, read and encoded.

    Args:
        spec: What the task says about it.
        task: It as a task of its own.
        data: Its examples, under `SPLIT`.
        notes: Messages for the user about what was found and decided.
    """

    spec: FurtherSet
    task: TaskSpec
    data: TaskData
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the rows that are scored."""
        return data_fingerprint(self.data.raw, self.task)[SPLIT]


class FurtherScores:
    """The further data sets of a task, and the base model's scores on them, which are computed once per process.

    Args:
        base: The base model.
        data: The task's data, encoded for the base model.
    """

    def __init__(self, base: Base, data: TaskData) -> None:
        self._base = base
        self._sets = load_further(base.task, data)
        self._of_base: dict[str, float] = {}

    @classmethod
    def of(cls, base: Base, data: TaskData) -> FurtherScores:
        """Return those of a base model, read at the first call only."""
        known = _LOADED.get(base.model)
        if known is None or known[0] != base.task:
            known = _LOADED[base.model] = (base.task, cls(base, data))
        return known[1]

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Return the scores of a model on every set, and what it has forgotten where the base model has a score.

        Args:
            model: The model, which is left in evaluation mode.
        """
        found = {each.spec.name: self._score(each, model) for each in self._sets}
        if not find_kind(self._base.task.type).base_has_head:
            return found
        if not self._of_base:
            base = self._base.model
            self._of_base = (
                dict(found) if model is base else {e.spec.name: self._score(e, base) for e in self._sets}
            )
        for each in self._sets:
            change = found[each.spec.name] - self._of_base[each.spec.name]
            is_loss = metric_of(each.spec.metric).direction == "minimize"
            found[each.spec.forgetting] = change if is_loss else -change
        return found

    def _score(self, each: FurtherData, model: nn.Module) -> float:
        base, examples = self._base, each.data.splits[SPLIT]
        if each.task.type == base.task.type:
            examples = list(with_references(base, each.data, examples))
        found = evaluate(
            model,
            each.data,
            examples,
            task_type=each.task.type,
            device=base.device,
            computing=base.computing,
            generates=True,
        )
        return found.metrics[each.spec.metric]


def load_further(task: TaskSpec, data: TaskData) -> list[FurtherData]:
    """Read and encode the further data sets of a task.

    Args:
        task: The task.
        data: Its data, whose tokenizer, classes and scale of targets the sets share.

    Raises:
        InvalidInputError: A set cannot be read, lacks a column, or has a label that is not a class of the task.
    """
    return [_load(place, each, task, data) for place, each in enumerate(task.also)]


def _load(place: int, spec: FurtherSet, task: TaskSpec, data: TaskData) -> FurtherData:
    where, notes = f"task.also[{place}]", Notes()
    try:
        own = _as_task(spec, task)
        rows = _read(spec, own)
        raw = {spec.name: rows}
        check_columns(raw, own)
        check_label_types(raw, own)
        raw = read_targets(without_empty_rows(raw, own, notes), own, data.classes, notes)
        rows = raw[spec.name]
        rows = rows.select(subset(range(len(rows)), spec.limit, seed=0))
        scale = None if data.target_scale is None else asdict(data.target_scale)
        fields = {**own.model_dump(), "target_scale": scale}
        encoded = encode_split(rows, spec.name, fields, data.tokenizer, data.classes, notes)
    except DataError as error:
        raise InvalidInputError(Problem(f"{where}.data", error.what, error.fix)) from error
    except InvalidInputError as error:
        raise InvalidInputError([_within(where, problem) for problem in error.problems]) from error
    notes.note(f"{spec.name}: {len(encoded.examples):,} of {len(raw[spec.name]):,} examples are scored")
    found = replace(
        data,
        splits={SPLIT: encoded.examples},
        raw={SPLIT: rows.select(encoded.kept)},
        fields=own.model_dump(),
        _cuts={},
    )
    return FurtherData(spec, own, found, (*notes.facts, *notes.warnings))


def _as_task(spec: FurtherSet, task: TaskSpec) -> TaskSpec:
    """Return a further set as a task of its own, with what it leaves open from the task that it belongs to."""
    shared = ("positive", "chat_template", "merge_system", "bad_rows", "data_version", "max_length")
    kept = {name: getattr(task, name) for name in shared}
    kind = spec.type or task.type
    if kind != task.type:
        kept.pop("positive")
    columns = spec.columns()
    if kind == task.type:
        forms = ("text", "label", "prompt", "completion", "messages")
        inputs = forms if not columns else ("label",) if "label" not in columns else ()
        columns = {name: value for name in inputs if (value := getattr(task, name))} | columns
    if spec.max_length is not None:
        kept["max_length"] = spec.max_length
    return TaskSpec.model_validate(
        {
            **kept,
            **columns,
            "type": kind,
            "train": spec.data,
            "dataset": spec.dataset,
            "metric": spec.metric,
        }
    )


def _read(spec: FurtherSet, own: TaskSpec) -> Rows:
    source = find_sources({"train": spec.data}, spec.dataset)["train"]
    source["text_columns"] = [column for column in own.columns if column != own.label]
    return read_source(source)


def _within(where: str, problem: Problem) -> Problem:
    """Return a problem of a set as a task with its path in the sweep file."""
    names: Sequence[str] = problem.where.split(".")
    field = names[-1] if len(names) > 1 else ""
    field = "data" if field not in FurtherSet.model_fields else field
    return Problem(f"{where}.{field}", problem.what, problem.fix)
