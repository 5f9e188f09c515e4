"""The target of published laws: `params=1e9,tokens=2e10,seq=2048`, or `hidden=4096,family=llama`."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.laws.fit_table import parse_magnitude
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from surrogates.laws.published import MODEL_FAMILIES, QUANTITIES

KEYS = (*QUANTITIES, "seq", "family")
_EXAMPLES = {"seq": "seq=2048", "hidden": "hidden=4096", "rank": "rank=16"}


@dataclass(frozen=True)
class SuggestionTarget:
    """A run to choose hyperparameters for.

    Args:
        at: the quantities that laws depend on, by name.
        sequence_length: tokens per sequence, in which the batch is also given; None for tokens alone.
        model_family: the family of the base model; None if unknown.
    """

    at: dict[str, float]
    sequence_length: float | None = None
    model_family: str | None = None


def read_suggestion_target(text: str) -> SuggestionTarget:
    """Read the pairs of `autotune law suggest --at`.

    Args:
        text: `key=value` pairs, separated by commas; numbers take the suffixes k, M, B and T.

    Raises:
        InvalidInputError: a pair is malformed, its key is unknown, or no pair is given.

    Example:
        >>> read_suggestion_target("params=1B,tokens=20B,seq=2048").at
        {'params': 1000000000.0, 'tokens': 20000000000.0}
    """
    numbers: dict[str, float] = {}
    family: str | None = None
    problems = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, written = (each.strip() for each in part.partition("="))
        value = parse_magnitude(written)
        if key not in KEYS:
            problems.append(Problem("--at", f"{key!r} is not a quantity of a law", did_you_mean(key, KEYS)))
        elif key in numbers or (key == "family" and family):
            problems.append(Problem("--at", f"{key} is given twice", "Keep one."))
        elif key == "family":
            family = written
            if written not in MODEL_FAMILIES:
                what = f"no law is known for the model family {written!r}"
                problems.append(Problem("--at", what, did_you_mean(written, MODEL_FAMILIES)))
        elif value is None:
            what = f"{part!r} is not a positive number"
            problems.append(Problem("--at", what, f"Write {_EXAMPLES.get(key, f'{key}=7e9 or {key}=7B')}."))
        else:
            numbers[key] = value
    if not problems and not numbers.keys() - {"seq"}:
        fix = "Write --at params=1e9,tokens=2e10, or --at hidden=4096,family=llama with --for lora."
        problems.append(Problem("--at", "no quantity is given", fix))
    if problems:
        raise InvalidInputError(problems)
    length = numbers.pop("seq", None)
    return SuggestionTarget(numbers, length, family)
