"""VB-LoRA: a LoRA whose matrices are composed from a shared bank of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK, _DEFAULT_VECTORS, _DEFAULT_LENGTH = 4, 90, 256
_TOP_K = 2
_SHORTEST = 4


@register
class VbLora(MatrixFamily):
    """Trains a bank of vectors and mixture logits for A and B in W x + B A x (Li et al., 2024, arXiv 2405.15179).

    Each segment of A and B is a mixture of the two bank vectors with the largest logits. The bank has `vectors`
    vectors of `length` numbers; if the sizes of the selected matrices are not multiples of `length`, their largest
    common divisor below it is used. The logits, one per segment and bank vector, are most of the trained
    parameters; their learning rate is `logits_ratio` times that of the bank (1e-2 and 1e-3 in the paper). As in the
    paper, only the two largest of each segment are saved, as indices and weights, so a loaded adapter cannot be
    trained further.
    """

    name = "vblora"
    title = "VB-LoRA (Li et al., 2024)"
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=16, log=True, default=_DEFAULT_RANK),
        Int(name="vectors", low=16, high=1024, log=True, default=_DEFAULT_VECTORS),
        Categorical(name="length", choices=(32, 64, 128, 256), default=_DEFAULT_LENGTH, ordered=True),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
        Float(name="logits_ratio", low=1.0, high=30.0, log=True, default=10.0),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        common = _common(shape.matrices)
        if common >= _SHORTEST:
            return None
        return (
            f"VB-LoRA divides every row and column into segments of one length; the sizes of {shape.model_type} "
            f"have no common divisor above {common}"
        )

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        return super().cost(self._fitted(config, shape), shape)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o)/b · h logits for segments of length b and h bank vectors; the FLOPs of LoRA.

        The composition of the segments is elementwise.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        return MatrixCost(
            parameters=_pieces(config, matrix) * int(config.get("vectors", _DEFAULT_VECTORS)),
            forward=2.0 * rank * (inputs + outputs),
            backward=2.0 * rank * (inputs + 2 * outputs + differentiated * inputs),
        )

    def shared_parameters(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> int:
        """Return the number of parameters of the bank."""
        return int(config.get("vectors", _DEFAULT_VECTORS)) * int(config["length"])

    def saved_bytes(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> tuple[int, int]:
        """Return the bytes of the bank, and those of k indices and k - 1 weights, which sum to one, per segment."""
        index = 1 if int(config.get("vectors", _DEFAULT_VECTORS)) < 2**8 else 2
        pieces = sum(_pieces(config, matrix) for matrix in matrices)
        return 4 * self.shared_parameters(config, matrices), pieces * (4 * (_TOP_K - 1) + index * _TOP_K)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import VBLoRAConfig

        return VBLoRAConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            num_vectors=int(config.get("vectors", _DEFAULT_VECTORS)),
            vector_length=int(self._fitted(config, shape)["length"]),
            topk=_TOP_K,
            save_only_topk_weights=True,
            fan_in_fan_out=shape.conv1d,
        )

    def learning_rate_factors(self, config: Mapping[str, Value]) -> Mapping[str, float]:
        ratio = float(config.get("logits_ratio", 10.0))
        return {"vblora_logits_A": ratio, "vblora_logits_B": ratio}

    def _fitted(self, config: Mapping[str, Value], shape: ModelShape) -> Mapping[str, Value]:
        """Return the configuration with a segment length that divides every size."""
        longest = int(config.get("length", _DEFAULT_LENGTH))
        common = _common(self.matrices(config, shape))
        return {**config, "length": next(b for b in range(longest, 0, -1) if common % b == 0)}


def _pieces(config: Mapping[str, Value], matrix: Matrix) -> int:
    rank = int(config.get("rank", _DEFAULT_RANK))
    return rank * (matrix.inputs + matrix.outputs) // int(config["length"])


def _common(matrices: tuple[Matrix, ...]) -> int:
    return gcd(*(size for matrix in matrices for size in (matrix.inputs, matrix.outputs)))
