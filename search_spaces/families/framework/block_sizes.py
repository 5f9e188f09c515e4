"""Families whose sizes depend on the adapted matrices, such as block sizes and ranks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from search_spaces.families.framework.base import BYTES_PER_NUMBER
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Value


class FittedFamily(MatrixFamily):
    """A matrix family that adjusts the values of its parameters to the model.

    So a sampled configuration never fails because of a size: a block size becomes the largest divisor at or below it,
    and a rank at most the smaller side of the smallest matrix. `matrix_cost` receives the adjusted values.
    """

    linear_only: ClassVar[bool] = True
    """Whether peft supports only `torch.nn.Linear` and not the transposed Conv1D of transformers."""

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if self.linear_only and shape.conv1d:
            return (
                f"{shape.model_type} stores its matrices transposed (Conv1D); "
                f"peft supports {self.title} for torch.nn.Linear only"
            )
        return None

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        """Return the configuration with values that are valid for the adapted matrices."""
        return dict(config)

    def frozen_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        """Return how many frozen numbers the saved adapter contains for one matrix."""
        return 0

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        besides = sum(self.frozen_numbers(config, matrix) for matrix in matrices)
        if not besides:
            return None
        trained = sum(self.matrix_cost(config, matrix, True).parameters for matrix in matrices)
        shared = self.shared_parameters(config, matrices)
        return BYTES_PER_NUMBER * shared, BYTES_PER_NUMBER * (trained + besides)


class BlockFamily(FittedFamily):
    """A family with blocks of equal size.

    `block_size` becomes the largest divisor, at or below its value, of all sizes that are divided into blocks.
    """

    @abstractmethod
    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        """Return the sizes of a matrix that are divided into blocks: its inputs, its outputs, or both."""

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        default = next(p.default for p in self.parameters if p.name == "block_size")
        sizes = {size for matrix in self.matrices(config, shape) for size in self.sizes(matrix)}
        return {**config, "block_size": largest_divisor(int(config.get("block_size", default)), sizes)}


def largest_divisor(limit: int, sizes: Iterable[int]) -> int:
    """Return the largest common divisor of `sizes` that is at most `limit`."""
    common = math.gcd(*sizes)
    return max(d for d in range(1, min(limit, common) + 1) if common % d == 0)


def smallest_side(matrices: Iterable[Matrix]) -> int:
    """Return the smallest number of inputs or outputs, which bounds the rank on all of the matrices."""
    return min(min(matrix.inputs, matrix.outputs) for matrix in matrices)
