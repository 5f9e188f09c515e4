"""CPT: training examples before the sequence, whose embeddings are trained within a small distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from search_spaces.families.framework.base import AdapterCost, Preparation, register
from search_spaces.families.prompt import PromptTuning
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Parameter, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TOKENS = 32
_READ_BATCHES = 16
_HEADS_UNNAMED = ("mamba", "mpt")
_INPUT, _OUTPUT = 2, 4
"""peft's types of the tokens of the first example of the context."""


@register
class ContextAwarePromptTuning(PromptTuning):
    """Trains the embeddings of examples of the task before every sequence (Blau et al., 2024, arXiv 2410.17222).

    The context is the first `tokens` tokens of the run's training examples, which its seed decides. The embeddings of
    their inputs move by at most `epsilon` · √(d/2048), those of their answers (the last token, in a plain text) stay
    where they are. The training loss covers the answers of the context too, weighted by `decay` to the power of their
    distance in examples; scores are those of the task alone.
    """

    name = "cpt"
    title = "CPT (Blau et al., 2024)"
    quantized = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Int(name="tokens", low=8, high=256, log=True, default=_DEFAULT_TOKENS),
        Float(name="epsilon", low=0.01, high=10.0, log=True, default=0.1),
        Float(name="decay", low=0.7, high=1.0, step=0.05, default=0.95),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if task != "causal-lm":
            return "peft has CPT for language models only, because the context contains answers"
        if shape.model_type in _HEADS_UNNAMED:
            return (
                f"peft does not find the number of attention heads in the configuration of {shape.model_type}"
            )
        return super().unsupported(shape, task)

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """tokens · d parameters, d the width of the word embeddings."""
        tokens = int(config.get("tokens", _DEFAULT_TOKENS))
        return AdapterCost(
            parameters=tokens * shape.embedding_width,
            lowest_layer=-1,
            extra_tokens=tokens,
            preparation=self.preparation(config),
        )

    def preparation(self, config: Mapping[str, Value]) -> Preparation:
        return Preparation("context_tokens", _READ_BATCHES, forward=False)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import CPTConfig
        from peft import TaskType as PeftTask

        tokens, epsilon = int(config.get("tokens", _DEFAULT_TOKENS)), float(config.get("epsilon", 0.1))
        return CPTConfig(
            task_type=PeftTask.CAUSAL_LM,
            # Any ids: the preparation replaces them.
            cpt_token_ids=[number % shape.vocabulary for number in range(tokens)],
            cpt_tokens_type_mask=[_INPUT] * (tokens - 1) + [_OUTPUT],
            opt_weighted_loss_type="decay",
            opt_loss_decay_factor=float(config.get("decay", 0.95)),
            opt_projection_epsilon=epsilon,
            opt_projection_format_epsilon=epsilon,
        )
