"""The methods of peft that no family searches, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping

COVERED_BY: Mapping[str, str] = {"TRAINABLE_TOKENS": "trainable_tokens"}
"""Methods that a family has as an option of another method's configuration, by their names in peft."""

UNSEARCHED: Mapping[str, str] = {
    "ADAPTION_PROMPT": (
        "peft computes the attention of Llama, Mistral and GPT-2 a second time for it, and of no other architecture; "
        "`layer-prefix` trains keys and values in chosen layers of every architecture"
    ),
    "CARTRIDGE": (
        "it is prefix tuning (`prefix`) whose first values are the keys and values of a long text that the user "
        "chooses, trained to answer from that text; a task's data name no such text"
    ),
    "FROD": (
        "each product with a matrix becomes three, one of them with a sparse matrix, whose FLOPs torch does not "
        "count, and the adapter is saved with a dense matrix for each kind of matrix"
    ),
    "MULTITASK_PROMPT_TUNING": (
        "the prompts of several tasks share factors, a product of low rank for each task; a sweep has one task, "
        "whose prompt is that of `prompt` with more parameters"
    ),
    "POLY": (
        "it mixes LoRA adapters by the task of an example; with the one task of a sweep the mixture is the same for "
        "all examples, so it is `lora` with more parameters. `molora` mixes by token"
    ),
    "SHADOW": (
        "it trains a second, smaller model beside a decoder, with a loss of its own, and no adapter of its matrices"
    ),
    "XLORA": (
        "it mixes LoRA adapters that were trained before, and peft saves the mixing network alone; `molora` trains a "
        "mixture together with its adapters"
    ),
}
"""The reason for each method, by its name in peft."""
