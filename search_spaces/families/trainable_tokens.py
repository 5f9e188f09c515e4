"""Trainable tokens: the embeddings of the most frequent tokens, trained in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, Family, Preparation, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TOKENS = 64
_COUNTED_BATCHES = 64


@register
class TrainableTokens(Family):
    """Trains the embeddings of the `tokens` most frequent tokens of the training data; all else is frozen.

    They are counted in the first 64 batches of the run, which its seed decides. Tokens that were added for the task,
    such as those that mark turns or fields, are in every example and therefore among them. The saved adapter has
    their ids (`trainable_token_indices` of peft's LoraConfig, here without matrices) and their new embeddings. Where
    the language head shares its matrix with the embeddings, it is trained in the same rows.
    """

    name = "trainable_tokens"
    title = "trainable tokens (peft)"
    quantized = True
    parameters = (
        Int(name="tokens", low=1, high=1024, log=True, default=_DEFAULT_TOKENS),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if not shape.vocabulary:
            return f"{shape.model_type} reads pixels and no tokens, whose embeddings would be trained"
        if shape.decoder_depth:
            return (
                f"both stacks of {shape.model_type} look up embeddings in modules of their own, of which peft adapts "
                "one"
            )
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """tokens · d parameters, d the width of the word embeddings.

        Backpropagation reaches the embeddings. A language head that shares their matrix has a gradient of the whole
        matrix, 2 · d FLOPs per token of the vocabulary, of which the trained rows are kept.
        """
        width, rows = shape.embedding_width, shape.vocabulary
        return AdapterCost(
            parameters=_tokens(config, shape) * width,
            lowest_layer=-1,
            backward_flops=2.0 * width * rows if shape.has_tied_head else 0.0,
            mergeable=True,
            preparation=self.preparation(config),
        )

    def preparation(self, config: Mapping[str, Value]) -> Preparation:
        return Preparation("frequent_tokens", _COUNTED_BATCHES, forward=False)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig
        from peft.utils.constants import DUMMY_TARGET_MODULES

        return LoraConfig(
            task_type=peft_task(task),
            target_modules=DUMMY_TARGET_MODULES,
            r=1,
            # Any ids: the preparation replaces them.
            trainable_token_indices=list(range(_tokens(config, shape))),
            modules_to_save=trained_modules(shape),
        )


def _tokens(config: Mapping[str, Value], shape: ModelShape) -> int:
    return min(int(config.get("tokens", _DEFAULT_TOKENS)), shape.vocabulary)
