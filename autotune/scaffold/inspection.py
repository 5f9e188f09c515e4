"""Inspection of data files and models for `autotune init`: columns, labels, lengths, and the reasons."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.scaffold.data_form import DataForm, find_form
from autotune.scaffold.label_column import FEW_VALUES, IDS, find_label, is_number
from autotune.scaffold.label_lists import find_images, find_sets, find_tags, tags_metric
from autotune.scaffold.training_data import read_training_data
from search_spaces.errors import InvalidInputError, Problem, first_line
from trials.reading.tables.rows import Rows
from trials.tasks.specs import GENERATING, TrialTask

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS = 20_000
"""Rows from which the columns are inferred."""
_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("text_a", "text_b"), ("question", "sentence"), ("question", "passage"), ("query", "passage"),
    ("sentence_a", "sentence_b"),
)  # fmt: skip


@dataclass
class DataInspection:
    """The inferred task of a data file, its columns, and the reasons.

    Args:
        columns: all columns of the file.
        rows: the number of examples.
        type: the task.
        text: the text column, or the two columns of a text pair.
        image: the column of images, for a task that reads them.
        label: the column to predict.
        label_columns: the columns of 0 and 1 to predict, if there are several.
        form: the form of the data of a language model, if they are not plain text.
        majority: the share of the most frequent class.
        classes: the number of classes.
        rarer: the rarer of two classes.
        metric: the usual metric of these data; empty for that of the task.
        words: the 0.98 quantile of the examples' lengths, in words.
        notes: one clause per decision, with its reason.
    """

    columns: list[str]
    rows: int
    type: TrialTask
    text: list[str] = field(default_factory=list)
    image: str | None = None
    label: str | None = None
    label_columns: list[str] = field(default_factory=list)
    form: DataForm | None = None
    majority: float = 0.0
    classes: int = 0
    rarer: Any = None
    metric: str = ""
    words: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def used(self) -> list[str]:
        """The columns that the task uses."""
        labels = [self.label] if self.label else self.label_columns
        labels += [self.image] if self.image else []
        return [*self.text, *labels, *(self.form.columns if self.form else [])]


def first_rows(rows: Rows) -> pd.DataFrame:
    """Return the first rows as a data frame, from which columns are inferred."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values[:_MAX_ROWS]) for name, values in rows.columns.items()})


def inspect_data(path: Path, wanted: TrialTask | None = None) -> DataInspection:
    """Infer the task and its columns from a data file; see `inspect_rows`."""
    data = read_training_data([path])
    return inspect_rows(data.train, data.name, wanted)


def inspect_rows(data: Rows, name: str, wanted: TrialTask | None = None) -> DataInspection:
    """Infer the task and its columns from training data.

    Args:
        data: the training rows.
        name: the name of the data in messages.
        wanted: the task if the user named it; by default it is inferred.

    Raises:
        InvalidInputError: the data have no columns for the task.
    """
    rows, count = first_rows(data), len(data)
    tags = find_tags(data) if wanted in (None, "token-classification") else None
    if tags is not None:
        return _as_tagged(data, tags)
    image = find_images(data) if wanted in (None, "image-classification") else None
    if image is not None:
        return _with_images(data, rows, image)
    strings = [c for c in rows.columns if _is_text(rows[c])]
    form = find_form(data, strings.__contains__, wanted) if wanted in (None, *GENERATING) else None
    is_chat = wanted in GENERATING or (form is not None and form.is_certain)
    if wanted in (None, "multi-label-classification") and strings and not is_chat:
        sets = find_sets(data, is_wanted=wanted is not None)
        if sets:
            return _with_sets(data, rows, sets, strings)
    label = None if is_chat else find_label(data, rows, wanted, may_be_lone=form is None)
    found = DataInspection(list(rows.columns), count, wanted or "causal-lm")
    found.notes.extend(data.notes)
    if form is not None and (form.is_certain or label is None or label in form.columns):
        found.form, found.type = form, form.task
        found.notes.append(f"task: {form.task}, since the data are {form.reason}")
    elif label is not None:
        _as_labeled(found, rows, label, wanted, [c for c in strings if c != label])
    elif wanted in (None, "causal-lm"):
        _as_plain_text(found, rows, strings)
    elif wanted == "preference":
        what = f"{name!r} has no columns chosen and rejected with texts or chats ({', '.join(rows.columns)})"
        raise InvalidInputError(Problem("--data", what, "Rename the columns of the two answers."))
    else:
        what = f"no column of {name!r} looks like a label for {wanted} ({', '.join(rows.columns)})"
        raise InvalidInputError(Problem("--data", what, "Add a label column, or choose another --task."))
    if not found.used or (found.type not in GENERATING and not found.text):
        what = f"no column of {name!r} holds text ({', '.join(rows.columns)})"
        raise InvalidInputError(Problem("--data", what, "Give a file with a column of text."))
    found.words = _words(rows, found)
    return found


def as_seq2seq(found: DataInspection, data: Rows, reason: str) -> DataInspection:
    """Return the inspection of data of a language model for an encoder-decoder.

    Of exactly two columns of texts without usual names, the one with the longer texts holds the prompts.

    Args:
        found: the inspection.
        data: the training rows.
        reason: why the task is seq2seq.

    Raises:
        InvalidInputError: the data are not texts of prompts and completions.
    """
    notes = [note for note in found.notes if not note.startswith(("task: ", "text: "))]
    notes.append(f"task: seq2seq, since {reason}")
    pair = _pair_by_length(data) if found.form is None else None
    if pair is not None:
        prompt, completion = pair
        notes.append(
            f"prompt: column {prompt!r}, whose texts are longer on average than those of {completion!r}"
        )
        named: dict[str, str | list[str]] = {"prompt": prompt, "completion": completion}
        form = DataForm(named, notes[-1], dict.fromkeys(named, "inferred from the lengths of the texts"))
        found = replace(found, text=[], form=form)
        found.words = _words(first_rows(data), found)
    fields = found.form.fields if found.form is not None else {}
    if not {"prompt", "completion"} <= set(fields) or set(fields) - {"prompt", "completion"}:
        what = f"seq2seq needs columns of prompts and of completions, and nothing else ({', '.join(found.columns)})"
        fix = (
            "Name the columns prompt and completion, or write a sweep file whose task has the fields prompt: COLUMN "
            "and completion: COLUMN, or choose a decoder such as gpt2 with --task causal-lm."
        )
        raise InvalidInputError(Problem("--data", what, fix))
    return replace(found, type="seq2seq", notes=notes)


def _pair_by_length(data: Rows) -> tuple[str, str] | None:
    """Return the columns of prompts and completions if exactly two hold texts, the longer texts first."""
    rows = first_rows(data)
    lengths = {c: rows[c].dropna().str.len().mean() for c in rows.columns if _is_text(rows[c])}
    if len(lengths) != 2:
        return None
    first, second = sorted(lengths, key=lambda column: -lengths[column])
    return first, second


def _as_tagged(data: Rows, columns: tuple[str, str]) -> DataInspection:
    words, tags = columns
    found = DataInspection(data.column_names, len(data), "token-classification", [words], label=tags)
    different = len({tag for row in data[tags] for tag in row or ()})
    found.metric = tags_metric(data, tags)
    found.words = int(np.ceil(np.quantile([len(row or ()) for row in data[words]], 0.98)))
    found.notes += [
        *data.notes,
        f"task: token-classification, since {words!r} and {tags!r} have lists of the same length in every row",
        f"label: column {tags!r}, which has {different:,} different tags",
    ]
    return found


def _with_images(data: Rows, rows: pd.DataFrame, image: str) -> DataInspection:
    found = DataInspection(data.column_names, len(data), "image-classification", image=image)
    found.notes.extend(data.notes)
    others = data.only(name for name in data.column_names if name != image)
    label = find_label(others, rows.drop(columns=[image]), found.type)
    if label is None:
        what = f"no column looks like a label for the images in {image!r} ({', '.join(data.column_names)})"
        raise InvalidInputError(Problem("--data", what, "Add a column of classes, or one folder per class."))
    _as_classes(found, rows, label)
    found.notes.insert(len(data.notes), f"task: image-classification, since column {image!r} holds images")
    return found


def _with_sets(data: Rows, rows: pd.DataFrame, columns: list[str], strings: list[str]) -> DataInspection:
    found = DataInspection(data.column_names, len(data), "multi-label-classification", metric="f1_micro")
    found.notes.extend(data.notes)
    if len(columns) == 1:
        (found.label,) = columns
        different = len({label for row in data[columns[0]] for label in row or ()})
        reason = f"column {columns[0]!r} has lists of {different:,} different labels"
    else:
        found.label_columns = columns
        reason = f"{len(columns)} columns have 0 and 1 alone ({', '.join(columns)})"
    found.notes.append(f"task: multi-label-classification, since {reason}")
    _find_text(found, rows, strings)
    found.words = _words(rows, found)
    return found


def _as_labeled(
    found: DataInspection, rows: pd.DataFrame, label: str, wanted: TrialTask | None, strings: list[str]
) -> None:
    values = rows[label].dropna()
    numbers = is_number(values)
    different = int(values.nunique())
    found.label = label
    if wanted is None:
        whole = numbers and bool((values == values.round()).all())
        found.type = (
            "regression" if numbers and not (whole and different <= FEW_VALUES) else "sequence-classification"
        )
    kind = "numbers" if found.type == "regression" else "classes"
    found.notes.append(f"task: {found.type}, since column {label!r} has {different:,} different {kind}")
    if found.type == "sequence-classification":
        _as_classes(found, rows, label)
    _find_text(found, rows, strings)


def _as_classes(found: DataInspection, rows: pd.DataFrame, label: str) -> None:
    """Set the label column and what is known of its classes."""
    shares = rows[label].value_counts(normalize=True)
    found.label, found.classes = label, len(shares)
    found.majority = float(shares.iloc[0])
    found.rarer = shares.index.tolist()[-1] if len(shares) == 2 else None


def _find_text(found: DataInspection, rows: pd.DataFrame, strings: list[str]) -> None:
    """Set the text column, or the pair of columns, of a task with labels."""
    named = {c.lower(): c for c in strings}
    pair = next(((named[a], named[b]) for a, b in _PAIRS if a in named and b in named), None)
    if pair:
        found.text = list(pair)
        found.notes.append(f"text: columns {pair[0]!r} and {pair[1]!r}, as a pair")
    elif strings:
        found.text = [max(strings, key=lambda c: rows[c].astype(str).str.len().mean())]
        others = [c for c in strings if c not in found.text]
        unused = f" (not used: {', '.join(map(repr, others))})" if others else ""
        found.notes.append(f"text: column {found.text[0]!r}, which has the longest texts{unused}")


def _as_plain_text(found: DataInspection, rows: pd.DataFrame, strings: list[str]) -> None:
    if strings:
        found.text = [max(strings, key=lambda c: rows[c].astype(str).str.len().mean())]
        found.notes.append(
            f"task: causal-lm on the plain text of column {found.text[0]!r}, since no column is a label"
        )


def _has_nested(values: pd.Series) -> bool:
    """Return whether any row has a list or an object, which has no place among labels and texts."""
    return any(isinstance(value, list | tuple | dict | np.ndarray) for value in values)


def _is_text(column: pd.Series) -> bool:
    """Return whether a column holds texts: mostly different strings that are no identifiers."""
    values = column.dropna()
    if values.empty or _has_nested(values) or not isinstance(values.iloc[0], str):
        return False
    if str(column.name).lower() in IDS:
        return False
    spaced = float(values.astype(str).str.contains(r"\s", regex=True).mean())
    return spaced > 0.2 or (values.nunique() > FEW_VALUES and float(values.astype(str).str.len().mean()) > 20)


def _words(rows: pd.DataFrame, found: DataInspection) -> int:
    sample = rows.sample(min(len(rows), 2_000), random_state=0)
    if found.form is not None:
        rows_of = ({str(name): value for name, value in row.items()} for row in sample.to_dict("records"))
        counts = [found.form.word_count(row) for row in rows_of]
    else:
        texts = sample[found.text].fillna("").astype(str).agg(" ".join, axis=1)
        counts = [len(text.split()) for text in texts]
    return int(np.ceil(np.quantile(counts, 0.98)))


@dataclass(frozen=True)
class ModelInspection:
    """Facts from a model's config.json.

    Args:
        architecture: the class name, such as BertForMaskedLM.
        layers: the number of layers, if the configuration has it.
        width: the hidden size, if the configuration has it.
        positions: the maximum sequence length; None if there is no limit.
        encoder: whether the model is an encoder, which cannot generate text.
        encoder_decoder: whether an encoder reads the text that a decoder continues.
    """

    architecture: str
    layers: int | None
    width: int | None
    positions: int | None
    encoder: bool
    encoder_decoder: bool = False

    @property
    def note(self) -> str:
        """One line about the model."""
        size = f", {self.layers} layers of width {self.width}" if self.layers and self.width else ""
        return f"model: {self.architecture}{size}"


def inspect_model(name: str) -> ModelInspection | str:
    """Read the configuration of a model.

    Args:
        name: a folder, a Hugging Face model id, or `builtin:pocket`.

    Returns:
        The facts, or a sentence with the reason why the configuration could not be read (such as no network).

    Raises:
        InvalidInputError: the name is a folder without a valid config.json.
    """
    path = Path(name).expanduser()
    if name == "builtin:pocket":
        from trials.tasks.pocket import base_folder

        path = Path(base_folder())
    if path.is_dir():
        if not (path / "config.json").is_file():
            fix = "Give the folder that holds the model's config.json and its safetensors."
            raise InvalidInputError(Problem("--model", f"{name!r} has no config.json", fix))
        return _read_config(_parse_json((path / "config.json").read_text(encoding="utf-8"), name))
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            text = Path(cached).read_text(encoding="utf-8")
        else:  # without a network, the download of huggingface_hub would retry for half a minute
            with urllib.request.urlopen(hf_hub_url(name, "config.json"), timeout=10) as reply:
                text = reply.read().decode("utf-8")
    except (HFValidationError, OSError, UnicodeDecodeError) as error:
        return f"model: the configuration of {name!r} could not be read ({first_line(error, 120)})"
    return _read_config(_parse_json(text, name))


def _parse_json(text: str, model: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        what = f"the config.json of {model!r} is not valid JSON ({error})"
        raise InvalidInputError(Problem("--model", what, "Download the model again.")) from None
    return config if isinstance(config, dict) else {}


def _read_config(config: Mapping[str, Any]) -> ModelInspection:
    architecture = str((config.get("architectures") or [config.get("model_type", "unknown")])[0])
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if positions and config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        positions -= 2  # position numbers start after that of the padding
    causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
    encoder = not causal and any(
        word in str(config.get("model_type")) for word in ("bert", "electra", "mpnet")
    )
    return ModelInspection(
        architecture=architecture,
        layers=config.get("num_hidden_layers") or config.get("n_layer"),
        width=config.get("hidden_size") or config.get("n_embd"),
        positions=positions,
        encoder=encoder and not config.get("is_decoder"),
        encoder_decoder=bool(config.get("is_encoder_decoder")),
    )
