"""Rungs of data or sequence length: the size and the cost of a partial run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.model_costs import ModelCosts
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.amounts import examples_of, samples_seen
from search_spaces.parameters.training import SEQUENCE_LENGTH
from search_spaces.parameters.types import Value
from trials.data.task_data import TaskData
from trials.records import PartialRun
from trials.tasks.specs import TaskSpec
from trials.training.run import example_count, truncation_length


def partial_share(
    part: PartialRun | None, config: Mapping[str, Value], costs: CostModel | ModelCosts, task: TaskSpec
) -> float:
    """Return the training FLOPs of a configuration's partial run, as a share of those of its full run.

    Args:
        part: the partial run; None for the full run.
        config: the active parameters.
        costs: of the sweep's base model, or of those that it chooses from.
        task: of the sweep.
    """
    if part is None:
        return 1.0
    if part.of == "data":
        count, epochs = examples_of(config, costs.workload.train_samples), float(config.get("epochs", 1))
        return samples_seen(epochs, example_count(count, part)) / samples_seen(epochs, count)
    cut = truncation_length(config, task.max_length, part)
    assert cut is not None
    return costs({**config, SEQUENCE_LENGTH.name: cut}).train_flops / costs(config).train_flops


def rung_lengths(sweep: Sweep, data: TaskData, choices: Sequence[int]) -> list[int]:
    """Return the tokens to which texts are truncated on the rungs below the top.

    Args:
        sweep: with its ladder.
        data: of the sweep.
        choices: the sequence lengths of the space; empty where only the task truncates.

    Returns:
        Lengths in tokens; empty unless the rungs are shares of the length.

    Raises:
        InvalidInputError: a rung would truncate no example, or leave no example a token to learn.
    """
    if sweep.ladder is None or sweep.ladder.of != "length":
        return []
    found: list[int] = []
    for whole in choices or [sweep.task.max_length]:
        longest = min(int(data.lengths("train").max()), whole)
        for share in sweep.ladder.ladder.rungs[:-1]:
            config = {SEQUENCE_LENGTH.name: whole} if choices else {}
            length = truncation_length(config, sweep.task.max_length, PartialRun("length", share))
            assert length is not None
            if length >= longest:
                cut = f"{length} tokens, {100 * share:.3g} % of {whole}"
                what = f"{cut}, cut no training example: the longest has {longest}"
                field = f"space.parameters.{SEQUENCE_LENGTH.name}" if choices else "task.max_length"
                raise InvalidInputError(
                    Problem("ladder.of", what, f"Lower {field} to {longest} or less, or write data.")
                )
            found.append(length)
            try:
                data.at_length(sweep.task, length)
            except InvalidInputError as error:
                what = f"{length} tokens, {100 * share:.3g} % of {whole}, leave no example anything to learn"
                raise InvalidInputError(Problem("ladder.min", what, "Raise it.")) from error
    return found
