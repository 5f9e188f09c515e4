"""Adapters whose sizes must suit the matrices they stand on: blocks that divide, ranks that are not larger."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from search_spaces.families.framework.base import BYTES_PER_NUMBER
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.model.shape import Matrix, ModelShape, TaskType
from search_spaces.parameters.types import Value


class FittedFamily(MatrixFamily):
    """A matrix family that bends the values of its knobs to the model before it counts or builds anything.

    A sampled configuration then never fails for a size: a block becomes the largest divisor at or below what
    was asked for, a rank the smaller side of the smallest matrix. `matrix_cost` sees the fitted values.
    """

    linear_only: ClassVar[bool] = True
    """Whether peft wants `torch.nn.Linear` and refuses transformers' transposed Conv1D."""

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if self.linear_only and shape.conv1d:
            return (
                f"{shape.model_type} stores its matrices transposed (Conv1D); "
                f"peft has {self.title} for torch.nn.Linear alone"
            )
        return None

    def fitted(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        """The configuration with values that the adapted matrices allow."""
        return dict(config)

    def stored_besides(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        """Frozen numbers that the saved adapter holds for one matrix, besides its trainable parameters."""
        return 0

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        besides = sum(self.stored_besides(config, matrix) for matrix in matrices)
        if not besides:
            return None
        trained = sum(self.matrix_cost(config, matrix, True).parameters for matrix in matrices)
        shared = self.shared_parameters(config, matrices)
        return BYTES_PER_NUMBER * shared, BYTES_PER_NUMBER * (trained + besides)


class BlockFamily(FittedFamily):
    """A family of equal blocks: `block_size` becomes the largest divisor, at or below the knob's value, of all the
    sizes that blocks are cut from.
    """

    @abstractmethod
    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        """What a matrix has cut into blocks: its inputs, its outputs, or both."""

    def fitted(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        usual = next(knob.default for knob in self.parameters if knob.name == "block_size")
        sizes = {size for matrix in self.matrices(config, shape) for size in self.sizes(matrix)}
        return {**config, "block_size": largest_divisor(int(config.get("block_size", usual)), sizes)}


def largest_divisor(limit: int, sizes: Iterable[int]) -> int:
    """The largest number, `limit` at most, that divides every one of `sizes`."""
    common = math.gcd(*sizes)
    return max(d for d in range(1, min(limit, common) + 1) if common % d == 0)


def smallest_side(matrices: Iterable[Matrix]) -> int:
    """The smallest of all inputs and outputs: no matrix has a smaller largest rank."""
    return min(min(matrix.inputs, matrix.outputs) for matrix in matrices)
