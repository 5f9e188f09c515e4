"""P-tuning: virtual tokens before the sequence, computed by a small network during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import BYTES_PER_NUMBER, AdapterCost, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.families.prompt import PromptTuning
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TOKENS = 8
_DEFAULT_HIDDEN = 128


@register
class PTuning(PromptTuning):
    """Trains virtual tokens and a perceptron that computes their embeddings (Liu et al., 2021, arXiv 2103.10385).

    The perceptron has two hidden layers of size `hidden`; the paper has an LSTM before it. Only the output embeddings
    are saved, so the saved file is much smaller than the trained parameters.
    """

    name = "p_tuning"
    title = "P-tuning (Liu et al., 2021)"
    quantized = True
    parameters = (
        Int(name="tokens", low=1, high=64, log=True, default=_DEFAULT_TOKENS),
        Categorical(name="hidden", choices=(32, 64, 128, 256, 512), default=_DEFAULT_HIDDEN, ordered=True),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if any("mlp_head".endswith(name) for name in shape.head_modules):
            return (
                f"{shape.model_type} trains a module called head, and peft, which compares the ends of names, "
                "would confuse it with mlp_head of the prompt network"
            )
        return super().unsupported(shape, task)

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """tokens·d embeddings, and the network's d·h + h² + h·d weights and 2h + d biases.

        A training step runs the network once on each virtual token, with two FLOPs per weight forward and four
        backward. Inference does not need the network.
        """
        tokens = int(config.get("tokens", _DEFAULT_TOKENS))
        hidden, width = int(config.get("hidden", _DEFAULT_HIDDEN)), shape.embedding_width
        weights = 2 * width * hidden + hidden**2
        return AdapterCost(
            parameters=tokens * width + weights + 2 * hidden + width,
            saved_bytes=BYTES_PER_NUMBER * tokens * width,
            lowest_layer=-1,
            step_flops=6.0 * tokens * weights,
            extra_tokens=tokens,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PromptEncoderConfig, PromptEncoderReparameterizationType

        return PromptEncoderConfig(
            task_type=peft_task(task),
            num_virtual_tokens=int(config.get("tokens", _DEFAULT_TOKENS)),
            encoder_reparameterization_type=PromptEncoderReparameterizationType.MLP,
            encoder_hidden_size=int(config.get("hidden", _DEFAULT_HIDDEN)),
            num_layers=shape.depth,
            num_attention_heads=shape.heads,
            token_dim=shape.embedding_width,
            modules_to_save=trained_modules(shape),
        )
