"""Text from text by an encoder-decoder: the encoder reads the prompt, the decoder writes the completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..reading.encoding import IGNORED, PROMPT, REFERENCE, Encoded, Encoding, padded, padded_labels
from ..reading.forms import read_texts
from .causal_lm import LanguageModel
from .kind import Batch

if TYPE_CHECKING:
    import torch


class Seq2Seq(LanguageModel):
    """The completion of a prompt, which an encoder reads."""

    name = "seq2seq"
    auto_model = "AutoModelForSeq2SeqLM"
    shape_task = name
    has_decoder = True

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the tokens of the prompt, cut at `max_length`, and as labels those of the completion.

        The completion is cut at `max_target_length`, and ends with the tokenizer's end-of-text token.
        """
        texts = read_texts(row, task)
        inputs = _tokens(tokenizer, texts.prompt, task["max_length"])
        labels = _tokens(tokenizer, texts.completion, task["max_target_length"], is_target=True)
        full = [
            len(_tokens(tokenizer, text, None, is_target=is_target)) if len(cut) >= limit else len(cut)
            for text, cut, limit, is_target in (
                (texts.prompt, inputs, task["max_length"], False),
                (texts.completion, labels, task["max_target_length"], True),
            )
        ]
        example: Encoded = {
            "input_ids": inputs,
            "attention_mask": [1] * len(inputs),
            "labels": labels,
            "length": len(inputs) + len(labels),
        }
        if task.get("generation"):
            example |= {PROMPT: inputs, REFERENCE: texts.completion}
        return Encoding(example, full[0], full[1], texts.remarks)

    def target_count(self, example: Encoded) -> int:
        """Return the number of target tokens."""
        return len(example["labels"])

    def row_length(self, example: Encoded) -> int:
        """Return the number of tokens of the longer of both texts."""
        return max(len(example["input_ids"]), len(example["labels"]))

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch with the tokens that the decoder reads: the labels, one place later."""
        inputs = padded(examples, tokenizer)
        labels = padded_labels(examples, max(len(example["labels"]) for example in examples))
        inputs["decoder_input_ids"] = shifted(labels, tokenizer)
        return Batch(inputs, {"labels": labels})

    def aligned(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits in fp32 and the tokens that they predict."""
        return logits.float(), labels


def shifted(labels: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """Return what the decoder reads, as the model itself shifts labels: a first token, and the labels but the last.

    `match_tokens` finds the first token, which is the last one of the labels for mBART.
    """
    import torch

    begin = tokenizer.decoder_start
    first = labels.new_full((len(labels), 1), 0 if begin is None else begin)
    if begin is None:
        last = (labels != IGNORED).sum(1, keepdim=True) - 1
        first = labels.gather(1, last)
    before = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, tokenizer.pad_token_id)
    return torch.cat((first, before), dim=1)


def _tokens(tokenizer: Any, text: str, limit: int | None, *, is_target: bool = False) -> list[int]:
    """Return the tokens of a text, cut at a limit; a target ends with the end of the text in any case."""
    options: dict[str, Any] = {"verbose": False}
    if limit is not None:
        options |= {"truncation": True, "max_length": limit}
    ids = list(
        (tokenizer(text_target=text, **options) if is_target else tokenizer(text, **options))["input_ids"]
    )
    end = tokenizer.eos_token_id
    if is_target and end is not None and end not in ids[-2:]:  # mBART's language follows the end
        ids = [*(ids if limit is None else ids[: limit - 1]), end]
    return ids
