"""The frozen base model in 8 or 4 bits, by bitsandbytes.

Only the matrices of the layers are quantized. Embeddings, normalizations, the head and every adapter stay in fp32, so
an adapter computes as on a base model in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.model.shape import ModelShape
from trials.tasks.specs import QUANTIZING, ModelSpec

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


def check_quantized(spec: ModelSpec, device: torch.device) -> None:
    """Reject a device that cannot multiply quantized weights.

    Raises:
        InvalidInputError: It cannot.
    """
    if device.type not in QUANTIZING:
        what = f"the device of this machine is {device.type}, which cannot multiply {spec.weights}"
        raise InvalidInputError(Problem("model.weights", what, "Write bf16, or device: cpu."))


def quantization(spec: ModelSpec, shape: ModelShape) -> BitsAndBytesConfig:
    """Return the quantization options with which transformers loads the base model.

    `int8` is LLM.int8() (Dettmers et al., 2022, arXiv 2208.07339), `nf4` the normal float of QLoRA (Dettmers et
    al., 2023, arXiv 2305.14314).
    """
    from transformers import BitsAndBytesConfig

    # It warns at each product that the inputs are cast.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    kept = unquantized(shape)
    if spec.weights == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=kept,
    )


def unquantized(shape: ModelShape) -> list[str]:
    """Return the modules above the layers, which are not quantized."""
    return list(dict.fromkeys((*shape.head_modules, *(matrix.name for matrix in shape.head))))


def freeze_layout(model: nn.Module) -> None:
    """Keep the quantized weights in the one layout that every copy of the model shares and trains on.

    bitsandbytes rearranges weights in a layer's first forward pass. A layer in 8 bits moves its numbers from the
    weight to its state, away from the copies that share the weight: here it moves them now. A layer in 4 bits,
    on a CPU with AVX512-BF16, in evaluation mode and on an input without a gradient, rewrites its weight for an
    inference kernel, which computes in bf16, has no gradient, and takes only widths that are multiples of its
    blocks. A frozen model trains in that very state, so here that is switched off.

    Args:
        model: The base model as it was loaded, before its first forward pass.
    """
    for module in model.modules():
        if getattr(getattr(module, "weight", None), "CB", None) is not None:
            module.init_8bit_state()  # type: ignore[operator]
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def quantized_parts(model: nn.Module) -> Iterator[Any]:
    """Yield the state of quantized weights that is not a parameter; copies of the model share it."""
    for module in model.modules():
        state = getattr(module, "state", None)
        for part in (
            getattr(module, "quant_state", None),
            *(getattr(state, name, None) for name in ("CB", "SCB")),
        ):
            if part is not None:
                yield part
