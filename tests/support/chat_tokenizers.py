"""A byte-level tokenizer with the special tokens of a chat template."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_SPECIAL = re.compile(
    r"<\|[^|<>\s{}'\"]+\|>|<｜[^｜<>]+｜>|<\|(?:turn|channel|tool_call|tool_response)>|</?s>"
    r"|<(?:turn|channel|tool_call|tool_response)\|>|<(?:start_of_turn|end_of_turn|end_of_utterance)>|\[gMASK\]|<sop>"
)
"""The forms of special tokens in the templates of current models."""
_CHATML = ("<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|tool|>")
_TEXTS = [
    "the user asks and the assistant answers what the weather is in town",
    "a call of a tool and its answer",
]


@cache
def chat_tokenizer(template: str) -> Any:
    """Return a tokenizer with a chat template, none if it is empty, and with the special tokens in its text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _TEXTS * 3, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    special = sorted({*_CHATML, *_SPECIAL.findall(template)})
    fast.add_special_tokens({"additional_special_tokens": special})
    if template:
        fast.chat_template = template
    return fast


def marked_text(example: dict[str, Any], tokenizer: Any) -> str:
    """Return the text of an example with the tokens that the loss covers in double brackets."""
    text, is_learned = "", False
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        if (label >= 0) != is_learned:
            text += "]]" if is_learned else "[["
            is_learned = not is_learned
        text += tokenizer.decode([token])
    return text + "]]" * is_learned
