"""The interface of a kind of task: encoding, batches, losses and scores.

Life cycle: a row becomes an `Encoding` (`encode`), encoded examples become a `Batch` (`collate`), and the model's
output for the batch's inputs becomes the loss of each example in training (`losses`), or a few numbers per example in
evaluation (`columns`), which together become the scores of a split (`finish`, `scores`).

Shapes: n examples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..reading.encoding import IGNORED, Encoded, Encoding, padded, token_count
from ..reading.labels import TargetScale

if TYPE_CHECKING:
    import torch

Direction = Literal["maximize", "minimize"]
Array = NDArray[np.float64]
Columns = tuple[Array, ...]
"""One array per quantity, with one row per example."""
Values = Mapping[str, Any]
"""The active parameters of a configuration."""
REFERENCE = "reference"
"""The entry of an example with what the frozen base model says of it, see `TaskKind.reference`."""


@dataclass(frozen=True)
class Metric:
    """The properties of a score.

    Args:
        direction: Which values are better.
        best: The best possible value, or None if there is no bound.
        worst: The worst possible value, or None if there is no bound.
        is_generated: Whether it scores text that the model generates, and not its outputs for given texts.
    """

    direction: Direction
    best: float | None
    worst: float | None = None
    is_generated: bool = False


@dataclass(frozen=True)
class Batch:
    """The tensors of a batch of examples, padded to the longest.

    Args:
        inputs: The arguments of the model's forward pass; the first dimension of each tensor is the rows, of which
            an example has `TaskKind.rows_per_example`.
        targets: What the loss and the scores are computed from beside the model's output; `labels` for most kinds.
    """

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            {name: tensor.to(device) for name, tensor in self.inputs.items()},
            {name: tensor.to(device) for name, tensor in self.targets.items()},
        )


@dataclass(frozen=True)
class Scoring:
    """What the scores of a task need to know about its data.

    Args:
        positive: The index of the class that f1 scores, if it scores one that is named or rarer.
        target_scale: The scale by which the targets of a regression are standardized; None if they are not.
        classes: The label values in order, for tasks with classes.
        names: The names of the classes in the same order.
        task: The fields of the task's spec.
    """

    positive: int | None = None
    target_scale: TargetScale | None = None
    classes: tuple[Any, ...] | None = None
    names: tuple[str, ...] | None = None
    task: Mapping[str, Any] = field(default_factory=dict)


class TaskKind(ABC):
    """A kind of task. It has no state: one object serves every task of the kind."""

    name: ClassVar[str]
    """The task's `type` in a sweep file."""
    auto_model: ClassVar[str]
    """The class of transformers that loads a model with the head of the kind."""
    shape_task: ClassVar[str]
    """The task of `search_spaces` that has the same head and the same costs."""
    metrics: ClassVar[Mapping[str, Metric]]
    """The scores by name, without `eval_loss` (minimize), which every kind has."""
    default_metric: ClassVar[str] = "eval_loss"
    """The metric of a task that names none."""
    constant_name: ClassVar[str] = ""
    """What `constant_columns` predicts, for the user."""
    reads: ClassVar[Literal["text", "images"]] = "text"
    """What the model reads; for images, an `ImageReader` (`trials.reading.images`) takes the tokenizer's place."""
    label_form: ClassVar[Literal["single", "words", "set"]] = "single"
    """What a label is: a single value, a list with one value per word, or a list of any number of values."""
    has_classes: ClassVar[bool] = False
    """Whether each example has one class, which splits are stratified by."""
    scores_whole_texts: ClassVar[bool] = False
    """Whether held-out examples are scored at the task's maximum length, whatever length a trial trains on: a score
    that is a mean over tokens must be of the same tokens for every trial."""
    base_has_head: ClassVar[bool] = False
    """Whether the pre-trained model comes with the head, so that it has a score without training."""
    has_decoder: ClassVar[bool] = False
    """Whether the labels are the tokens of a decoder, and not of the text that the model is given."""
    rows_per_example: ClassVar[int] = 1
    """The rows of a batch that belong to one example; they are consecutive, and always in the same forward pass."""
    can_pack: ClassVar[bool] = True
    """Whether several configurations can share a forward pass (`trials.packing`)."""
    model_computes_loss: ClassVar[bool] = True
    """Whether the model returns the mean of `losses` itself when it is given the targets as further arguments."""

    def model_options(self, outputs: int) -> dict[str, Any]:
        """Return the arguments of `from_pretrained` that determine the head, for a number of outputs."""
        return {}

    @abstractmethod
    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the encoding of one row; see `trials.kinds.encoding.encode` for the arguments."""

    def target_count(self, example: Encoded) -> int:
        """Return how many targets the loss of an example is a sum over; an example without any is dropped."""
        return 1

    def drop_reason(self, example: Encoded, limit: int) -> str:
        """Return why an example without targets is dropped, for the user; it was cut at `limit` tokens."""
        return f"no target tokens within {limit} tokens"

    def learned_tokens(self, example: Encoded) -> int:
        """Return how many tokens of an example the loss covers; by default its targets are tokens."""
        return self.target_count(example)

    def row_length(self, example: Encoded) -> int:
        """Return the number of tokens of the example's longest row."""
        return token_count(example) // self.rows_per_example

    def rows(self, example: Encoded) -> Sequence[Encoded]:
        """Return the rows of an example, each with what the model reads of it alone."""
        return (example,)

    def row_inputs(self, rows: Sequence[Encoded], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Return the model's inputs for rows of any examples, as `collate` pads them."""
        return self.collate(rows, tokenizer).inputs

    def needs_reference(self, task: Mapping[str, Any]) -> bool:
        """Return whether losses and scores compare the model with the frozen base model."""
        return False

    def reference(self, columns: Columns) -> Sequence[Any]:
        """Return the entry `REFERENCE` of each example.

        Args:
            columns: Those of the base model without an adapter, for the examples without this entry.
        """
        raise NotImplementedError(f"{self.name} has no reference")

    def loss_values(self, task: Mapping[str, Any]) -> Values:
        """Return what `losses` reads beside a configuration's parameters, from the fields of the task's spec."""
        return {}

    def packs(self, task: Mapping[str, Any]) -> bool:
        """Return whether configurations of a task can share a forward pass.

        A loss that reads all examples of a batch cannot, since a pack divides batches.

        Args:
            task: The fields of the task's spec.
        """
        return self.can_pack

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch of examples, on the CPU."""
        import torch

        labels = torch.tensor([example["labels"] for example in examples])
        return Batch(padded(examples, tokenizer), {"labels": labels})

    @abstractmethod
    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the loss of each example, a sum over its targets, shape [n].

        The loss of a batch is their sum divided by the batch's number of targets.

        Args:
            output: What the model returned for the batch's inputs; its `logits` have the batch's rows.
            targets: The batch's targets.
            configs: The active parameters of each example's configuration with `loss_values`; None in evaluation.
        """

    @abstractmethod
    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return what the scores are computed from, a few tensors with one row per example.

        Args:
            output: What the model returned for the batch's inputs.
            targets: The batch's targets.
        """

    def finish(self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring) -> Columns:
        """Return the columns of a split in the units of the data.

        Args:
            columns: Those of all its batches, in double precision.
            examples: The examples in the same order.
            scoring: What the scores need to know.
        """
        return columns

    @abstractmethod
    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return `eval_loss` and every metric that is not of generated text.

        It is `eval_loss` alone, not finite, if the model's outputs are not finite.

        Args:
            columns: What `finish` returned.
            scoring: What the scores need to know.
        """

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return the contribution of each example to every score that is a mean over examples, shape [n] each."""
        return {}

    def temperature(self, columns: Columns) -> float | None:
        """Return what logits are divided by so that their softmax is calibrated; None for kinds without classes.

        Args:
            columns: What `finish` returned.
        """
        return None

    def answers(
        self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring
    ) -> tuple[list[Any], list[Any]] | None:
        """Return (predictions, references) as a person reads them, for a score of the user's own.

        Args:
            columns: Those of all batches, as for `finish`.
            examples: The examples in the same order.
            scoring: What the scores need to know.

        Returns:
            One prediction and one reference per example; None if the kind of task has none.
        """
        return None

    def class_indices(self, columns: Columns) -> tuple[Array, Array] | None:
        """Return (predicted, true) class indices, shape [n] each; None for kinds without one class per example.

        Args:
            columns: What `finish` returned.
        """
        return None

    def constant_columns(
        self, train: Sequence[Encoded], examples: Sequence[Encoded], outputs: int
    ) -> Columns | None:
        """Return the columns of the best constant answer, which reads no input; None if there is no such answer.

        Args:
            train: The training examples, from which the answer follows.
            examples: The examples to score.
            outputs: The number of outputs of the head.
        """
        return None


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the columns of several batches in one; rows that are as long as their batch are padded with IGNORED."""
    return tuple(np.concatenate(_equally_wide(column)) for column in zip(*parts, strict=True))


def _equally_wide(arrays: Sequence[Array]) -> list[Array]:
    width = max(array.shape[-1] for array in arrays)
    if arrays[0].ndim == 1 or all(array.shape[-1] == width for array in arrays):
        return list(arrays)
    return [
        np.pad(array, ((0, 0), (0, width - array.shape[-1])), constant_values=IGNORED) for array in arrays
    ]


def doubles(*tensors: torch.Tensor) -> Columns:
    """Return tensors as arrays in double precision."""
    return tuple(tensor.detach().double().cpu().numpy() for tensor in tensors)
