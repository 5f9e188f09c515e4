"""Checks of encoded examples against the base model: ids without an embedding, and misplaced ends of texts."""

from __future__ import annotations

from collections import Counter

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.model.shape import ModelShape
from trials.data.notes import listed
from trials.data.task_data import TaskData
from trials.kinds.registry import find_kind


def check_tokens(data: TaskData, shape: ModelShape) -> None:
    """Check that a base model can read the encoded examples.

    Raises:
        InvalidInputError: A token has no row in the model's embedding, the classifier of an encoder-decoder finds
            other than one end-of-text token per text, or its decoder has no end-of-text token to learn.
    """
    if shape.patches:
        return  # images have no token ids
    problem = _padding_problem(data, shape) or _vocabulary_problem(data, shape)
    if problem is None and shape.decoder_path is not None:
        problem = _target_end_problem(data) if _has_decoder(data) else _end_problem(data)
    if problem is not None:
        raise InvalidInputError(problem)


def _has_decoder(data: TaskData) -> bool:
    """Return whether a decoder writes the targets, so that no classifier reads the end of a text."""
    return find_kind(data.fields["type"]).has_decoder


def _target_end_problem(data: TaskData) -> Problem | None:
    """Return that a decoder cannot learn where a completion ends, if no token says so."""
    if data.tokenizer.eos_token_id is not None:
        return None
    return Problem(
        "model",
        "the tokenizer has no end-of-text token, so the decoder cannot learn where a completion ends",
        "Set tokenizer.eos_token to a token of its vocabulary, and save the tokenizer.",
    )


def _padding_problem(data: TaskData, shape: ModelShape) -> Problem | None:
    tokenizer = data.tokenizer
    if tokenizer.pad_token_id >= shape.vocabulary:
        return _without_row(tokenizer.pad_token_id, f"the padding token {tokenizer.pad_token!r}", shape)
    reads_end = shape.decoder_path is not None and not _has_decoder(data)
    if reads_end and tokenizer.pad_token_id == tokenizer.eos_token_id:
        return Problem(
            "model",
            f"the tokenizer pads with its end-of-text token {tokenizer.eos_token!r}, which the classifier reads",
            "Set tokenizer.pad_token to another token of its vocabulary, and save the tokenizer.",
        )
    return None


def _vocabulary_problem(data: TaskData, shape: ModelShape) -> Problem | None:
    kind = find_kind(data.fields["type"])
    for split, examples in data.splits.items():
        for index, example in enumerate(examples):
            highest = max((token for row in kind.rows(example) for token in row["input_ids"]), default=0)
            if highest >= shape.vocabulary:
                token = data.tokenizer.convert_ids_to_tokens(highest)
                place = _place(data, split, index)
                return _without_row(highest, f"{place}: the token {token!r}", shape)
    return None


def _place(data: TaskData, split: str, index: int) -> str:
    """Return where an example comes from: a line of a file, or a row of a split."""
    place = data.raw[split].place(index)
    return place if " of " in place else f"{place} of {split}"


def _without_row(number: int, token: str, shape: ModelShape) -> Problem:
    return Problem(
        "model",
        f"{token} has the id {number:,}, and the model's embedding has {shape.vocabulary:,} rows",
        "Call model.resize_token_embeddings(len(tokenizer)) and save the model, or remove the added tokens from the "
        "tokenizer.",
    )


def _end_problem(data: TaskData) -> Problem | None:
    """Return the examples with more end-of-text tokens than others; the classifier needs equally many."""
    end, token = data.tokenizer.eos_token_id, data.tokenizer.eos_token
    counts = {
        split: [example["input_ids"].count(end) for example in examples]
        for split, examples in data.splits.items()
    }
    usual = Counter(counts["train"]).most_common(1)[0][0]
    if end is None or usual == 0:
        return Problem(
            "model",
            "the tokenizer adds no end-of-text token, which the classifier of an encoder-decoder reads",
            "Use the tokenizer that the model was trained with.",
        )
    places = [
        _place(data, split, index)
        for split, found in counts.items()
        for index, count in enumerate(found)
        if count != usual
    ]
    if not places:
        return None
    texts = "1 text contains" if len(places) == 1 else f"{len(places):,} texts contain"
    return Problem(
        "task.text",
        f"{texts} the end-of-text token {token!r}, at which the classifier reads: {listed(places)}",
        f"Remove or replace {token!r} in these texts.",
    )
