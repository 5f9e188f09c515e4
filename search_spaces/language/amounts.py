"""Amounts of training examples in space files: numbers, shares of the training split, and `all`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from search_spaces.errors import Problem, did_you_mean
from search_spaces.language.entry import Entry
from search_spaces.parameters.amounts import ALL, Amount, TrainSamples, amount_text
from search_spaces.parameters.types import Parameter
from search_spaces.percentages import parse_percentage

AMOUNT_FIELDS = ("low", "high", "log", "choices", "default", "when")
_EXAMPLE = "Write a number of examples such as 2000, a share such as 25%, or all."


def bind_split(
    parameters: Mapping[str, Parameter],
    examples: int | None,
    narrowed: dict[str, str],
    problems: list[Problem],
) -> dict[str, Parameter]:
    """Return the parameters of a space with the numbers of examples that a training split offers.

    Args:
        parameters: the parameters, by name.
        examples: number of examples of the training split; None if it is unknown.
        narrowed: notes by parameter, to which those on numbers of examples are added.
        problems: list to which problems are appended.
    """
    bound = dict(parameters)
    for name, parameter in parameters.items():
        if isinstance(parameter, TrainSamples):
            bound[name], note, problem = parameter.bind_split(examples)
            narrowed.update({name: note} if note else {})
            problems += [] if problem is None else [problem]
    return bound


def train_samples(entry: Entry, parameter: TrainSamples, raw: object) -> TrainSamples:
    """Override the number of training examples: a single amount, a list of them, or a mapping of fields."""
    if not isinstance(raw, Mapping):
        given = raw if isinstance(raw, list | tuple) else [raw]
        return _choices(entry, parameter, given, None, "")
    unknown = [field for field in raw if field not in AMOUNT_FIELDS]
    for field in unknown:
        entry.report(f".{field}", "unknown field", did_you_mean(str(field), AMOUNT_FIELDS))
    if unknown:
        return parameter
    default = None
    if raw.get("default") is not None:
        default = _amount(entry, raw["default"], ".default")
        if default is None:
            return parameter
    if "choices" in raw:
        return _choices(entry, parameter, raw["choices"], default, ".choices")
    return _range(entry, parameter, raw, default)


def amount_fields(parameter: TrainSamples) -> dict[str, object]:
    """Return the fields of an entry that describe a parameter."""
    fields: dict[str, object]
    if parameter.choices:
        fields = {"choices": [_written(amount) for amount in parameter.choices]}
    else:
        low, high = _written(parameter.low), _written(parameter.high)
        fields = {"low": low, "high": high, "log": parameter.log}
    return fields if parameter.default is None else fields | {"default": _written(parameter.default)}


def _written(amount: Amount) -> int | str:
    return amount if isinstance(amount, int) else amount_text(amount)


def _choices(
    entry: Entry, parameter: TrainSamples, raw: object, default: Amount | None, field: str
) -> TrainSamples:
    if not isinstance(raw, list | tuple) or not raw:
        entry.report(field, f"{raw!r} is not a list of choices", "Write them in brackets: [200, 1000, all].")
        return parameter
    amounts = [_amount(entry, value, field) for value in raw]
    chosen = tuple(amount for amount in amounts if amount is not None)
    if len(chosen) < len(amounts):
        return parameter
    texts = list(map(amount_text, chosen))
    if len(set(texts)) < len(texts):
        entry.report(field, f"a choice appears twice in {texts}", "Keep each once.")
    elif default is not None and amount_text(default) not in texts:
        fix = did_you_mean(amount_text(default), texts)
        entry.report(".default", f"{amount_text(default)!r} is not among the choices", fix)
    return replace(parameter, choices=chosen, default=default)


def _range(
    entry: Entry, parameter: TrainSamples, raw: Mapping[str, object], default: Amount | None
) -> TrainSamples:
    low, high = (
        _amount(entry, raw[field], f".{field}") if raw.get(field) is not None else getattr(parameter, field)
        for field in ("low", "high")
    )
    log = raw.get("log", parameter.log)
    if not isinstance(log, bool):
        entry.report(".log", f"{log!r} is not true or false", "Write log: true or log: false.")
        return parameter
    if low is None or high is None:
        return parameter
    if type(low) is type(high) and low > high:
        entry.report(".low", f"low {amount_text(low)} is above high {amount_text(high)}", "Swap them.")
    if isinstance(high, int) and not isinstance(low, int) and "low" not in raw:
        entry.report(".low", f"missing, with high at {high} examples", "Give the smallest number as well.")
    if default is not None and type(default) is type(low) is type(high) and not low <= default <= high:
        what = f"{amount_text(default)} is outside {amount_text(low)} to {amount_text(high)}"
        entry.report(".default", what, "Move it inside.")
    return replace(parameter, low=low, high=high, log=log, default=default)


def _amount(entry: Entry, value: object, field: str) -> Amount | None:
    """Return a number of examples or a share of the split, or report a problem and return None."""
    if value == ALL:
        return 1.0
    if isinstance(value, str) and (share := parse_percentage(value)) is not None:
        if 0 < share <= 1:
            return share
        entry.report(field, f"{value} is out of range", "A share must be above 0% and at most 100%.")
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        entry.report(field, f"{value!r} is not a number of examples", _EXAMPLE)
        return None
    if 0 < value < 1:
        entry.report(field, f"{value} is not a whole number", f"Write the share {100 * value:g}%.")
        return None
    if value < 1 or value != int(value):
        what = "is out of range" if value < 1 else "is not a whole number"
        entry.report(field, f"{value:g} {what}", _EXAMPLE)
        return None
    return int(value)
