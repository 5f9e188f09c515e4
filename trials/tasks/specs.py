"""The `model` and `task` sections of a sweep file, validated on load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from search_spaces.errors import InvalidInputError, Problem, did_you_mean, first_line
from search_spaces.model.shape import TaskType
from search_spaces.parameters.preference import DEFAULT_LOSS
from trials.kinds.kind import Metric
from trials.kinds.registry import find_kind
from trials.reading.chat_templates import CHOICES
from trials.reading.forms import columns_read, required_columns
from trials.reading.tables.errors import DataError
from trials.reading.tables.label_columns import joined_name
from trials.reading.templates import columns_of
from trials.scoring.groups import WORST_GROUP
from trials.tasks.generation_spec import (
    GenerationSpec,
    generation_problems,
    pair_problems,
    with_generation,
)
from trials.tasks.labeled_fields import labeled_problems
from trials.tasks.metrics import METRICS, default_metric, metric_of, metrics_for
from trials.tasks.model_spec import (  # noqa: F401  (both sections of the file are imported from here)
    AUTO,
    POCKET,
    QUANTIZING,
    ModelSpec,
    Precision,
    Weights,
    resolve_model,
)
from trials.tasks.own_code import OwnCode, as_reference
from trials.tasks.score_specs import FurtherSet, OwnScore, further_metrics, further_problems

DOCSTRINGS = "builtin:docstrings"
"""The name of the embedded data set (`trials.tasks.pocket`)."""
ROWS_APART: Final = 1
TEXTS_TOGETHER: Final = 2
TEXTS_GENERATED: Final = 3
"""The versions of how data are split and scored, see `TaskSpec.data_version`."""
_CHAT_COLUMNS = ("system", "history", "tools")
_CHAT_FIELDS = ("text", "messages", "chosen", "rejected", *_CHAT_COLUMNS)
PreferenceLoss = Literal["dpo", "ipo", "kto", "simpo", "orpo"]
GENERATING = ("causal-lm", "seq2seq", "preference")
"""The tasks whose rows are texts or chats that a language model continues or answers."""
TrialTask = Literal[
    "sequence-classification",
    "token-classification",
    "multi-label-classification",
    "image-classification",
    "regression",
    "causal-lm",
    "seq2seq",
    "preference",
]
"""The tasks of trials."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    """Return one file as itself, and several as a list."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


Files = Annotated[str | Annotated[tuple[str, ...], Field(min_length=1)], BeforeValidator(_one_or_more)]
"""A file, a folder, the name of a split, or several files."""


def _read_template(value: object) -> object:
    """Return the text of a chat template for the path of its file, and a word for true and false."""
    if isinstance(value, bool):
        return "tokenizer" if value else "none"
    if not isinstance(value, str) or value in CHOICES or "{" in value:
        return value
    path = Path(value).expanduser()
    where = "task.chat_template"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = (
            f"{value!r} is neither a file that can be read ({first_line(error, 120)}) nor one of these words"
        )
        fix = f"Use one of {', '.join(CHOICES)}, or the path of a Jinja file."
        raise InvalidInputError(Problem(where, what, fix)) from error
    if "{" not in text:
        raise InvalidInputError(Problem(where, f"{value!r} holds no Jinja template", "Give another file."))
    return text


Columns = str | tuple[str, ...]
"""One column, a template with columns in braces, or columns that are joined."""


class TaskSpec(BaseModel):
    """The task: its kind, its data, the columns to read, and the metric.

    Data are local files (csv, tsv, txt, json, jsonl or parquet), also several of them or a folder, or the splits of a
    data set from the hub or a local folder.

    Args:
        type: Kind of task.
        dataset: Hub id or local folder of a data set; `train`, `validation` and `test` are then names of its splits.
        dataset_config: Name of the data set's configuration, for data sets that have several.
        train: Training data: a file, a list of files, a folder, or the name of a split.
        validation: Validation data, which choose the front; by default a share of the training data.
        test: Test data, which are scored only for the confirmed front; by default a share of the training data.
        text: One text column, or two that form a pair; for causal-lm the column of plain text, and for
            token-classification a column of lists of words.
        image: For image-classification, a column of images: paths relative to the data file, or the images of a data
            set. A folder with one folder of images per class has the columns `image` and `label`.
        label: Column to predict: any values for classification, numbers for regression, and for token-classification
            lists with one tag per word, such as B-person, I-person and O. For multi-label-classification lists of
            any number of labels, or several columns of 0 and 1.
        label_columns: The columns of 0 and 1 that `label` names as a list.
        prompt: For causal-lm, the prompts: a column of texts or of messages, a list of columns, whose texts a blank
            line joins, or a template such as `"{instruction}\\n\\n{input}"`. The loss covers only completion tokens.
        completion: For causal-lm, the completions that follow the prompts, given like `prompt`.
        messages: For causal-lm, a column of chats, `[{role, content}, …]` or `[{from, value}, …]`, formatted by a
            chat template; the loss covers only assistant turns.
        system: For causal-lm, a column of system messages.
        history: For causal-lm, a column of earlier turns, `[[question, answer], …]`.
        tools: For causal-lm, a column of the tools that a chat may call, as lists or JSON text.
        chosen: For preference and causal-lm, a column of the better answers of preference pairs. The other fields of
            causal-lm are for preference too.
        rejected: The column of the worse answers, which causal-lm does not learn.
        loss: For preference, the loss of a pair: `dpo` (the default), `ipo`, `kto`, `simpo` or `orpo`.
        chat_template: For causal-lm, how chats are formatted: `auto` (the tokenizer's template; texts of prompt and
            completion are joined without one if it has none), `tokenizer` (its template, always), `none` (texts are
            joined), `chatml`, or the path of a Jinja file, whose text is stored here.
        merge_system: For causal-lm, whether system messages become the beginning of the first user turn, for chat
            templates that take no system turn.
        bad_rows: For causal-lm, what is done with rows that the chat template refuses: `refuse` the data, or `drop`
            the rows.
        metric: Score by which trials are compared; by default the usual one of the task's kind. `module:function`
            is a function of your own, of (texts, predictions, references).
        evaluate: A function of your own, `module:function`, of (model, tokenizer, rows), which scores each trial at
            its end and returns a mapping of scores.
        scores: Directions and bounds of the scores of your own functions, where their code does not state them.
        also: Further data sets that each trial is scored on at its end, such as one that shows what it forgets.
        generation: For causal-lm, how text is generated for the scores of generated text, such as exact_match and
            rougeL. By default nothing is generated, unless the metric or an objective needs it.
        positive: For sequence-classification, the class that f1, precision, recall, average_precision and roc_auc
            score. By default the rarer of two classes, and the mean over the classes if there are more.
        groups: For tasks that are scored by accuracy, a column whose values divide the examples into groups, of which
            worst_group_accuracy is the least accuracy.
        max_length: Tokens after which an example is cut; for seq2seq, the prompt.
        max_target_length: For seq2seq, tokens after which a completion is cut.
        carve: Share of the training data that becomes missing validation data, and as much for missing test data.
        split_seed: Seed that fixes which examples are set aside.
        data_version: Version of how data are split and scored; a folder keeps that of its first run. 3 scores
            exact_match on generated text; before, it was what teacher_forced_exact_match is now. 2 carves by
            groups of equal texts, stratified by class, scores f1 of the rarer class, standardizes the targets of a
            regression, and gives prompts and completions the chat template. 1 carves rows at random, scores f1 of the
            second class, uses targets as they are, and encodes prompts and completions apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: TrialTask = "sequence-classification"
    dataset: str | None = None
    dataset_config: str | None = None
    train: Files = "train"
    validation: Files | None = None
    test: Files | None = None
    text: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    image: str | None = None
    label: str | None = None
    label_columns: tuple[str, ...] = ()
    prompt: Columns | None = None
    completion: Columns | None = None
    messages: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    loss: PreferenceLoss | None = None
    chat_template: Annotated[str, BeforeValidator(_read_template)] = "auto"
    merge_system: bool = False
    bad_rows: Literal["refuse", "drop"] = "refuse"
    metric: str = ""
    generation: GenerationSpec | None = None
    evaluate: str | None = None
    scores: tuple[OwnScore, ...] = ()
    also: tuple[FurtherSet, ...] = ()
    positive: str | int | float | bool | None = None
    groups: str | None = None
    max_length: int = Field(default=128, ge=2)
    max_target_length: int = Field(default=128, ge=2)
    carve: float = Field(default=0.15, gt=0, lt=0.5)
    split_seed: int = 0
    data_version: Literal[1, 2, 3] = TEXTS_GENERATED
    code: tuple[OwnCode, ...] = Field(default=(), exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, data: object) -> object:
        if isinstance(data, dict) and "code" in data:
            what = "a sweep file names no code, since reading it must not run any"
            fix = "Remove it, and name the file on the command line: autotune run SWEEP --code FILE."
            raise InvalidInputError(Problem("task.code", what, fix))
        if isinstance(data, dict) and isinstance(columns := data.get("label"), list | tuple):
            data = {
                **data,
                "label": joined_name(columns),
                "label_columns": columns if len(columns) > 1 else (),
            }
        if isinstance(data, dict) and data.get("type") == "preference" and not data.get("loss"):
            data = {**data, "loss": DEFAULT_LOSS}
        if isinstance(data, dict) and not data.get("metric"):
            data = {**data, "metric": default_metric(data.get("type", "sequence-classification"))}
        return with_generation(data, [data["metric"]]) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        problems = self._causal_problems() if self.type in GENERATING else labeled_problems(self.model_dump())
        if self.loss is not None and self.type != "preference":
            fix = "Remove it, or set type: preference with chosen and rejected."
            problems.append(Problem("task.loss", f"{self.loss!r}: {self.type} has no choice of losses", fix))
        fitting = metrics_for(self.type)
        if self.evaluate is not None and as_reference(self.evaluate) is None:
            what, fix = f"{self.evaluate!r} names no function", "Write module:function."
            problems.append(Problem("task.evaluate", what, fix))
        if self.metric not in self.metrics and as_reference(self.metric) is None:
            known = self.metric in METRICS
            what = f"{self.metric!r} " + (f"does not score {self.type}" if known else "is not a metric")
            fix = f"Use one of: {', '.join(fitting)}." if known else did_you_mean(self.metric, fitting)
            problems.append(Problem("task.metric", what, fix))
        if self.generation is not None:
            problems += generation_problems(self.type, fitting, is_plain=bool(self.text) and not self.label)
        problems += further_problems(self.also, self.type)
        if self.groups is not None and "accuracy" not in fitting:
            what = f"{self.groups!r}: {self.type} has no accuracy of groups"
            problems.append(Problem("task.groups", what, "Remove it."))
        if self.positive is not None and not find_kind(self.type).has_classes:
            what, fix = f"{self.positive!r}: {self.type} has no classes that f1 scores", "Remove it."
            problems.append(Problem("task.positive", what, fix))
        if problems:
            raise InvalidInputError(problems)
        return self

    def _causal_problems(self) -> list[Problem]:
        problems = self._form_problems()
        if len(self.text) > 1:
            problems.append(Problem("task.text", f"{list(self.text)} is more than one", "Name one column."))
        if self.image:
            problems.append(
                Problem("task.image", f"{self.image!r}: {self.type} reads no images", "Remove it.")
            )
        if self.label:
            fix = "Remove it, or set type: sequence-classification."
            problems.append(Problem("task.label", f"{self.label!r}: {self.type} has no labels", fix))
        for name in ("prompt", "completion"):
            try:
                if getattr(self, name) is not None and not columns_of(getattr(self, name)):
                    problems.append(
                        Problem(f"task.{name}", "names no column", "Write {column} in the template.")
                    )
            except DataError as error:
                problems.append(Problem(f"task.{name}", error.what, error.fix))
        if self.text and any(getattr(self, name) for name in _CHAT_COLUMNS):
            named = next(name for name in _CHAT_COLUMNS if getattr(self, name))
            problems.append(Problem(f"task.{named}", "plain text has no turns", "Remove it, or remove text."))
        return problems

    def _form_problems(self) -> list[Problem]:
        problems = []
        if self.type == "seq2seq":
            return pair_problems(
                {name: getattr(self, name) for name in (*_CHAT_FIELDS, "prompt", "completion")}
            )
        if self.type == "preference" and not self.chosen and not self.rejected:
            fix = "Name the columns of the better and the worse answers: chosen and rejected."
            return [Problem("task.chosen", "missing", fix)]
        if bool(self.chosen) != bool(self.rejected):
            missing = "rejected" if self.chosen else "chosen"
            fix = "Give both chosen and rejected, or the chosen answers as completion."
            problems.append(Problem(f"task.{missing}", "missing", fix))
        if self.chosen and self.completion:
            fix = "Remove it: the chosen answers are the completions."
            problems.append(Problem("task.completion", f"{self.completion!r} is given with chosen", fix))
            return problems
        forms = [bool(self.text), bool(self.prompt or self.completion), bool(self.messages)]
        if (
            sum(forms) > 1
            or (not any(forms) and not self.chosen and not self.rejected)
            or (self.text and self.chosen)
        ):
            fix = (
                "Name text (plain text), or prompt and completion, or messages, or chosen and rejected; "
                "autotune init finds them."
            )
            problems.append(Problem("task", "causal-lm needs exactly one form of data", fix))
        if bool(self.prompt) != bool(self.completion) and not self.chosen:
            missing = "completion" if self.prompt else "prompt"
            problems.append(Problem(f"task.{missing}", "missing", "Give both prompt and completion."))
        return problems

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every score whose properties are known, by name; own scores without them are known once a sweep starts."""
        kind = {name: metric_of(name) for name in metrics_for(self.type)}
        own = {score.name: score.metric for score in self.scores}
        groups = {WORST_GROUP: metric_of("accuracy")} if self.groups is not None else {}
        return {**kind, **groups, **further_metrics(self.also, self.type), **own}

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The names of the user's functions of (texts, predictions, references)."""
        others = {WORST_GROUP, *metrics_for(self.type), *further_metrics(self.also, self.type), self.evaluate}
        named = dict.fromkeys((self.metric, *(score.name for score in self.scores)))
        return tuple(name for name in named if name not in others and as_reference(name) is not None)

    @property
    def has_final_scores(self) -> bool:
        """Whether a trial has scores at its end only."""
        return self.evaluate is not None or bool(self.also)

    def metric_of(self, name: str) -> Metric:
        """Return the properties of a score; see `metrics`."""
        return self.metrics.get(name) or metric_of(name)

    @property
    def shape_task(self) -> TaskType:
        """The task of `search_spaces` that has the same head and the same costs."""
        return cast(TaskType, find_kind(self.type).shape_task)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the task reads."""
        fields = columns_read(self.model_dump())
        return tuple(dict.fromkeys(column for columns in fields.values() for column in columns))

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The columns in which every row needs a value."""
        return required_columns(self.model_dump())
