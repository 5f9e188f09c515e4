"""Lengths of examples in tokens, measured with the model's tokenizer and chat template for `autotune init`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.scaffold.first_example import local_model
from autotune.scaffold.inspection import DataInspection
from search_spaces.errors import InvalidInputError, Problem
from trials.kinds.scoring.tags import as_text
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import GENERATING, ModelSpec

_SAMPLE = 2_000
"""Examples that are measured, drawn at random if there are more."""
_NO_LIMIT = 1 << 30
_OF_TEMPLATE = "the chat template"


@dataclass(frozen=True)
class TokenLengths:
    """The lengths of a sample of examples.

    Args:
        tokens: The number of tokens of each example, shape [n].
        chat_template: The chat template that the task must name, since the tokenizer has none; else None.
        bad: Which rows the chat template refuses and why, with their counts in the sample; empty if there are none.
        merge_system: Whether the task must merge system turns, without which the chat template refuses every row.
        targets: For an encoder-decoder, the 0.98 quantile of the completions' tokens; else None.
    """

    tokens: NDArray[np.int64]
    chat_template: str | None = None
    bad: str = ""
    merge_system: bool = False
    targets: int | None = None


def measure_lengths(model: str, rows: Rows, found: DataInspection) -> TokenLengths | None:
    """Return the lengths of examples by the model's tokenizer; None if it is not on this machine.

    Args:
        model: a Hugging Face model id or a folder.
        rows: the training rows.
        found: the task and its columns.

    Raises:
        InvalidInputError: No row can be encoded.
    """
    from trials.data.tokenizers import load_tokenizer

    spec = local_model(ModelSpec(name=model))
    try:
        tokenizer = None if spec is None else load_tokenizer(spec)
    except InvalidInputError:
        return None  # a folder without tokenizer: the run says so
    if tokenizer is None:
        return None
    if len(rows) > _SAMPLE:
        chosen = np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False)
        rows = rows.select(np.sort(chosen).tolist())
    if found.type not in GENERATING:
        columns = (rows[name] for name in found.text)
        pairs = zip(*columns, strict=True)
        texts = [[as_text(text) for text in pair] for pair in pairs if None not in pair]
        return TokenLengths(np.array([len(tokenizer(*pair)["input_ids"]) for pair in texts], dtype=np.int64))
    return _generated_lengths(tokenizer, rows, found)


def _generated_lengths(tokenizer: Any, rows: Rows, found: DataInspection) -> TokenLengths | None:
    from trials.kinds.encoding import encode_rows
    from trials.reading.forms import required_columns
    from trials.reading.splits import complete_rows

    fields = found.form.fields if found.form is not None else {}
    task = {"type": found.type, "text": tuple(found.text), **fields, "max_length": _NO_LIMIT}
    if found.type == "seq2seq":
        read = encode_rows(
            rows, {**task, "max_target_length": _NO_LIMIT, "bad_rows": "drop"}, tokenizer, None
        )
        targets = int(np.quantile([len(example["labels"]) for example in read.examples] or [1], 0.98))
        return TokenLengths(np.array(read.cut.lengths, dtype=np.int64), bad=read.bad, targets=targets)
    rows = rows.select(complete_rows(rows, required_columns(task)))
    causes = ""
    for template, merged in (("auto", False), ("auto", True), ("chatml", False)):
        choice = {"chat_template": template, "merge_system": merged, "bad_rows": "drop"}
        try:
            encoded = encode_rows(rows, {**task, **choice}, tokenizer, None)
        except DataError:
            continue  # no chat template
        if encoded.kept:
            named = None if template == "auto" else template
            return TokenLengths(np.array(encoded.cut.lengths, dtype=np.int64), named, encoded.bad, merged)
        causes = causes or encoded.bad or "the answers of all rows are empty or have the weight 0"
        if template == "auto" and merged:
            break  # the tokenizer's own template is replaced by the user alone
    if not causes:
        return None
    raise InvalidInputError(
        Problem(
            "--model" if _OF_TEMPLATE in causes else "--data",
            f"no row could be measured, since {causes}",
            "Choose a model with another chat template, or write the sweep file by hand with chat_template: chatml, "
            "or with the path of a Jinja file."
            if _OF_TEMPLATE in causes
            else "Correct the rows.",
        )
    )
