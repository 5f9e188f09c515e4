"""Prompt tuning: trained embeddings before the sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from search_spaces.families.framework.base import AdapterCost, Family, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules, without_token_labels
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Parameter, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TOKENS = 8


@register
class PromptTuning(Family):
    """Trains the embeddings of `tokens` virtual tokens before the sequence (Lester et al., 2021, arXiv 2104.08691).

    They start at the embeddings of random words (section 3.2). They have few parameters and many FLOPs, because they
    make the sequence longer and backpropagation reaches the input.
    """

    name = "prompt"
    title = "prompt tuning (Lester et al., 2021)"
    quantized = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Int(name="tokens", low=1, high=64, log=True, default=_DEFAULT_TOKENS),
        Float(name="learning_rate", low=1e-3, high=1e-2, log=True, default=3e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if not shape.accepts_embeddings:
            return f"{shape.model_type} accepts no embeddings in place of token ids, which prompt tuning requires"
        if (reason := without_token_labels(task)) is not None:
            return reason
        if task != "causal-lm" and any(matrix.per_token for matrix in shape.head):
            return (
                f"{shape.model_type} classifies by the last token of its input ids; prompt tuning passes "
                "embeddings, so in a padded batch the head would read the padding"
            )
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """tokens · d parameters, d the width of the word embeddings."""
        tokens = int(config.get("tokens", _DEFAULT_TOKENS))
        return AdapterCost(parameters=tokens * shape.embedding_width, lowest_layer=-1, extra_tokens=tokens)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PromptTuningConfig, PromptTuningInit

        return PromptTuningConfig(
            task_type=peft_task(task),
            num_virtual_tokens=int(config.get("tokens", _DEFAULT_TOKENS)),
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
            num_layers=shape.depth,
            num_attention_heads=shape.heads,
            token_dim=shape.embedding_width,
            modules_to_save=trained_modules(shape),
        )
