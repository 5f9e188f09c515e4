"""The tokenizer of a base model, or its image processor."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, first_line, install_hint
from trials.reading.encoding import prepare_tokenizer
from trials.reading.images import ImageReader, load_reader
from trials.reading.tables.errors import DataError
from trials.tasks.specs import ModelSpec, resolve_model


def load_tokenizer(model: ModelSpec) -> Any:
    """Return the model's tokenizer, with a padding token.

    Raises:
        InvalidInputError: The model has no tokenizer, or one without a vocabulary or without a token that can pad.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve_model(model.name), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            Problem(
                "model",
                f"{model.name!r} has no tokenizer that can be loaded ({first_line(error, 200)})",
                "Give a hub id or a folder with the tokenizer's files beside the weights.",
            )
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes an empty tokenizer where the folder has no vocabulary
        raise InvalidInputError(
            Problem(
                "model",
                f"{model.name!r} has no vocabulary",
                "Save the tokenizer into the same folder: tokenizer.save_pretrained(folder).",
            )
        )
    try:
        return prepare_tokenizer(tokenizer)
    except DataError as error:
        raise InvalidInputError(Problem("model", f"{model.name!r}: {error.what}", error.fix)) from error


def load_image_reader(model: ModelSpec) -> ImageReader:
    """Return the model's image processor.

    Raises:
        InvalidInputError: The model has none that can be loaded, or Pillow is not installed.
    """
    options = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    try:
        return load_reader(resolve_model(model.name), **options)
    except DataError as error:
        fix = f"Run: {install_hint('images')}" if find_spec("PIL") is None else error.fix
        raise InvalidInputError(Problem("model", f"{model.name!r}: {error.what}", fix)) from error
    except (OSError, ValueError) as error:
        what = f"{model.name!r} cannot be loaded ({first_line(error, 200)})"
        raise InvalidInputError(Problem("model", what, "Give a folder with config.json.")) from error
