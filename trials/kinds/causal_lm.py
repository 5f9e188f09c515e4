"""Causal language modeling: plain texts, completions of prompts, and chats."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..reading.chat import Rendered, render_chat
from ..reading.chat_templates import AUTO, ChatTemplate, find_template, require_template
from ..reading.encoding import (
    IGNORED,
    Encoded,
    Encoding,
    closed,
    count_targets,
    cut_tokens,
    padded,
    padded_labels,
    tokens_and_labels,
)
from ..reading.forms import Chat, Passage, read_example, with_merged_system
from .generation import TEXT_METRICS, with_prompt
from .kind import Array, Batch, Columns, Metric, Scoring, TaskKind, Values
from .scoring.scores import TokenScores, causal_lm_scores

if TYPE_CHECKING:
    import torch

_APART = 1
"""The data version of sweeps that began when prompts and completions were encoded apart."""


class LanguageModel(TaskKind):
    """The tokens of a text. Columns: (target tokens, their summed loss, how many have the highest logit)."""

    metrics: ClassVar = {
        "perplexity": Metric("minimize", 1.0),
        "token_accuracy": Metric("maximize", 1.0, worst=0.0),
        "teacher_forced_exact_match": Metric("maximize", 1.0, worst=0.0),
        **TEXT_METRICS,
    }
    scores_whole_texts = True
    base_has_head = True

    @abstractmethod
    def aligned(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits in fp32 and the tokens that they predict."""

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the cross entropy in nats, summed over the target tokens."""
        return token_losses(*self.aligned(output.logits, targets["labels"])).sum(1)

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return (target tokens, their summed loss, how many have the highest logit)."""
        logits, labels = self.aligned(output.logits, targets["labels"])
        is_target = labels != IGNORED
        correct = (logits.argmax(-1) == labels) & is_target
        return is_target.sum(1), token_losses(logits, labels).sum(1), correct.sum(1)

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss over target tokens in nats, and the teacher-forced scores."""
        tokens, loss, correct = columns
        scores = TokenScores(tokens=tokens, loss=loss, correct=correct)
        return {"eval_loss": float(loss.sum() / tokens.sum()), **causal_lm_scores(scores)}

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return each example's part of the ratios of sums, and whether all of its tokens are right.

        The token counts are the same for every run on the same examples.
        """
        tokens, loss, correct = columns
        return {
            "eval_loss": loss / tokens.mean(),
            "token_accuracy": correct / tokens.mean(),
            "teacher_forced_exact_match": (correct == tokens).astype(float),
        }


class CausalLM(LanguageModel):
    """The next token of a text. Columns: (target tokens, their summed loss, how many have the highest logit)."""

    name = "causal-lm"
    auto_model = "AutoModelForCausalLM"
    shape_task = name

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the tokens of a chat or a text; the loss covers its answers, or all of a plain text."""
        return encode_causal(row, task, tokenizer)

    def target_count(self, example: Encoded) -> int:
        """Return the number of target tokens."""
        return count_targets(example["labels"])

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch whose labels are padded like its tokens."""
        inputs = padded(examples, tokenizer)
        return Batch(inputs, {"labels": padded_labels(examples, inputs["input_ids"].shape[1])})

    def aligned(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits in fp32 and the tokens that they predict; virtual tokens may precede the examples."""
        return aligned(logits, labels)


def aligned(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits in fp32 and the tokens that they predict; virtual tokens may precede the examples."""
    return logits[:, -labels.shape[1] : -1].float(), labels[:, 1:]


def encode_causal(row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any) -> Encoding:
    """Return the tokens of a chat or a text, and as labels those that the loss covers."""
    if task.get("data_version") == _APART and task["completion"]:
        return _encode_apart(row, task, tokenizer)
    return encode_form(read_example(row, task, as_chat=reads_as_chat(task, tokenizer)), task, tokenizer)


def reads_as_chat(task: Mapping[str, Any], tokenizer: Any) -> bool:
    """Return whether texts of prompt and answer become the turns of a chat."""
    return not task["text"] and find_template(tokenizer, task.get("chat_template", AUTO)) is not None


def encode_form(example: Chat | Passage, task: Mapping[str, Any], tokenizer: Any) -> Encoding:
    """Return the tokens of a chat or a text that was read from a row; see `encode_causal`."""
    remarks = example.remarks
    if isinstance(example, Chat):
        example = with_merged_system(example) if task.get("merge_system") else example
        choice = task.get("chat_template", AUTO)
        template = require_template(tokenizer, choice, with_tools=bool(example.tools))
        rendered = render_chat(example, template)
        remarks = rendered.remarks
        ids, labels = tokens_and_labels(rendered.text, rendered.spans, tokenizer, with_special_tokens=False)
        if not rendered.is_closed and (end := tokenizer.eos_token_id) is not None:
            ids, labels = [*ids, end], [*labels, end]
        pair = _answered_chat(rendered, template, tokenizer)
    else:
        text, start = example.prompt + example.completion, len(example.prompt)
        ids, labels = tokens_and_labels(text, [(start, len(text))], tokenizer, with_special_tokens=True)
        ids, labels = closed(ids, labels, tokenizer)
        if not example.prompt:
            labels = list(ids)
        pair = _prompt_tokens(example.prompt, tokenizer), example.completion
    encoding = cut_tokens(ids, labels, task["max_length"], remarks)
    if not task.get("generation"):
        return encoding
    return replace(encoding, example=with_prompt(encoding.example, *pair, task["max_length"]))


def _answered_chat(rendered: Rendered, template: ChatTemplate, tokenizer: Any) -> tuple[list[int], str]:
    """Return the tokens before the last learned answer of a chat, and the answer's text without special tokens."""
    if not rendered.spans:
        return [], ""
    start, end = rendered.spans[-1]
    answer = rendered.text[start:end]
    for token in template.special_tokens:
        answer = answer.replace(token, "")
    return list(
        tokenizer(rendered.text[:start], add_special_tokens=False, verbose=False)["input_ids"]
    ), answer


def _prompt_tokens(prompt: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a prompt with the special tokens before it; none for an empty prompt."""
    if not prompt:
        return []
    ids = list(tokenizer(prompt, verbose=False)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()  # some tokenizers end every text; the completion follows
    return ids


def _encode_apart(row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any) -> Encoding:
    """Encode prompt and completion apart and without a chat template, as sweeps of data version 1 began."""
    prompt = _prompt_tokens(row[task["prompt"]], tokenizer)
    completion = list(
        tokenizer(row[task["completion"]], add_special_tokens=False, verbose=False)["input_ids"]
    )
    completion, _ = closed(completion, completion, tokenizer)
    labels = [IGNORED] * len(prompt) + completion
    encoding = cut_tokens(prompt + completion, labels, task["max_length"], ())
    if not task.get("generation"):
        return encoding
    pair = prompt, row[task["completion"]]
    return replace(encoding, example=with_prompt(encoding.example, *pair, task["max_length"]))


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of each token in nats, 0 where the loss does not cover it, shape [n, tokens]."""
    from torch.nn import functional

    return functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
