"""The first training example of a new sweep file, as the model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from trials.tasks.specs import POCKET, ModelSpec

if TYPE_CHECKING:
    from trials.data.preview import ExamplePreview

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Files of which a folder with a tokenizer has at least one."""


def first_example(sweep: Sweep) -> ExamplePreview | str:
    """Return the first training example of a sweep, or a sentence that says why it cannot be shown.

    Nothing is downloaded.

    Args:
        sweep: the sweep.
    """
    model = local_model(sweep.model)
    if model is None:
        return (
            f"example: not shown, since the tokenizer of {sweep.model.name!r} is not on this machine; "
            "autotune run --dry-run downloads it"
        )
    from trials.data.preview import preview_first

    try:
        return preview_first(sweep.task, model)
    except InvalidInputError as error:
        problems = " ".join(f"{problem.where}: {problem.what}. {problem.fix}" for problem in error.problems)
        return f"example: not shown, and autotune run will refuse this file: {problems}"


def local_model(model: ModelSpec) -> ModelSpec | None:
    """Return the model by the folder of its tokenizer on this machine, or None if it has none here."""
    if model.name == POCKET or Path(model.name).expanduser().is_dir():
        return model
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in _TOKENIZER_FILES:
        try:
            cached = try_to_load_from_cache(model.name, name, revision=model.revision)
        except HFValidationError:
            return None
        if isinstance(cached, str):
            return model.model_copy(update={"name": str(Path(cached).parent), "revision": None})
    return None
