"""Texts that a model generates for the prompts of a split, and their scores, in the search and in exported runs.

An example of a kind that generates has two entries beside what the model is trained on: `prompt_ids`, the tokens
that precede its last learned answer, and `reference`, the text of that answer. transformers' `generate` continues
prompts in batches, with a cache of keys and values, until the end of the text, the end of the turn, or the maximum
length.

ROUGE is that of rouge-score (Google's), BLEU and chrF are those of sacrebleu; both are imported when one of their
scores is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..reading.encoding import PROMPT, REFERENCE, Encoded
from .kind import Array, Metric

_KEPT_IDS = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
"""What is kept of a model's own generation settings; everything else is as the task says."""
_SHARE = Metric("maximize", 1.0, worst=0.0, is_generated=True)
_PERCENT = Metric("maximize", 100.0, worst=0.0, is_generated=True)
_ROUGE = ("rouge1", "rouge2", "rougeL")
_CORPUS = ("bleu", "chrf")
TEXT_METRICS = {"exact_match": _SHARE, **dict.fromkeys(_ROUGE, _SHARE), **dict.fromkeys(_CORPUS, _PERCENT)}
"""The scores of generated text by name. `exact_match` and ROUGE are means over examples, between 0 and 1. BLEU and
chrF are of the whole corpus, between 0 and 100, as sacrebleu reports them."""
PACKAGES = {
    **dict.fromkeys(_ROUGE, ("rouge_score.rouge_scorer", "rouge-score")),
    **dict.fromkeys(_CORPUS, ("sacrebleu", "sacrebleu")),
}
"""The module that computes a score, and the package that has it."""


class TextScores(NamedTuple):
    """The scores of generated texts.

    Args:
        metrics: The scores by name.
        example_scores: The score of each example, shape [n], for the scores that are means over examples.
    """

    metrics: dict[str, float]
    example_scores: dict[str, Array]


class MissingPackageError(ImportError):
    """The package that computes a score is not installed."""


class Generated(NamedTuple):
    """A generated text, with the index of its example in the split."""

    example: int
    prompt: str
    text: str
    reference: str


@dataclass(frozen=True)
class Generation:
    """The settings of generation for one split.

    Args:
        fields: The fields of the task's `generation`.
        tokenizer: The model's tokenizer.
        is_encoder_decoder: Whether an encoder reads the prompts, so that they are padded on the right.
        examples: The examples of the split.
    """

    fields: Mapping[str, Any]
    tokenizer: Any
    is_encoder_decoder: bool
    examples: Sequence[Encoded] = field(repr=False)

    @property
    def chosen(self) -> list[int]:
        """The indices of the examples whose prompts are continued, in order: a random part, the same in every run."""
        return chosen_examples(self.examples, self.fields["samples"])

    def batches(self, model: Any) -> list[list[int]]:
        """Return the indices of the examples of each batch, long prompts first.

        An adapter that reads the whole batch gets one prompt at a time. With virtual tokens before the prompt, a
        batch has prompts of one length: padding would separate the virtual tokens from their prompt, and move the
        positions of its tokens.
        """
        lengths = {i: len(self.examples[i][PROMPT]) for i in self.chosen}
        order = sorted(lengths, key=lambda i: (-lengths[i], i))
        size = 1 if _reads_whole_batch(model) else self.fields["batch_size"]
        if self.is_encoder_decoder or not _has_virtual_tokens(model):
            return [order[start : start + size] for start in range(0, len(order), size)]
        groups: dict[int, list[int]] = {}
        for index in order:
            groups.setdefault(lengths[index], []).append(index)
        return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]

    def generate(self, model: Any, indices: Sequence[int]) -> list[str]:
        """Return the texts that a model generates for the prompts of one batch."""
        import torch

        prompts = [self.examples[i][PROMPT] for i in indices]
        rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in prompts]
        side = "right" if self.is_encoder_decoder else "left"
        batch = self.tokenizer.pad(rows, padding_side=side, return_tensors="pt")
        device = next(model.parameters()).device
        seed = [self.fields["seed"], *sorted(indices)]
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._settings(model) as stops:
            torch.manual_seed(int(np.random.default_rng(seed).integers(2**31)))
            output = model.generate(**{name: tensor.to(device) for name, tensor in batch.items()})
        begin = 1 if self.is_encoder_decoder else batch["input_ids"].shape[1]
        texts = [_until(row[begin:], stops) for row in output.tolist()]
        return [
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for ids in texts
        ]

    @contextmanager
    def _settings(self, model: Any) -> Iterator[set[int]]:
        """Give a model these settings in place of its own, and yield the tokens at which generation ends."""
        from transformers import GenerationConfig

        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        own, fields = base.generation_config, self.fields
        stops = self._stops(own.eos_token_id)
        sampling = {"temperature": fields["temperature"], "top_p": fields["top_p"], "top_k": 0}
        base.generation_config = GenerationConfig(
            max_new_tokens=fields["max_new_tokens"],
            do_sample=fields["do_sample"],
            num_beams=fields["num_beams"],
            use_cache=not _reads_whole_batch(model),
            eos_token_id=sorted(stops) or None,
            pad_token_id=self.tokenizer.pad_token_id,
            **{name: getattr(own, name) for name in _KEPT_IDS if getattr(own, name, None) is not None},
            **(sampling if fields["do_sample"] else {}),
        )
        try:
            yield stops
        finally:
            base.generation_config = own

    def _stops(self, own: int | list[int] | None) -> set[int]:
        """Return the tokens that end a text: model's, tokenizer's, and the special tokens that end answers."""
        listed = own if isinstance(own, list) else [own]
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {*self.tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
        ends = {example["labels"][-1] for example in self.examples} & special
        return {token for token in (*listed, self.tokenizer.eos_token_id, *ends) if token is not None}

    def scored(self, texts: Mapping[int, str]) -> tuple[TextScores, list[Generated]]:
        """Return the scores of generated texts, by the index of their example, and the texts in order."""
        chosen = [self.examples[i] for i in sorted(texts)]
        generated = [
            Generated(i, self.tokenizer.decode(example[PROMPT]), texts[i], example[REFERENCE])
            for i, example in zip(sorted(texts), chosen, strict=True)
        ]
        references = [each.reference for each in generated]
        return text_scores([each.text for each in generated], references, self.fields["metrics"]), generated


def generation_of(
    model: Any, tokenizer: Any, task: Mapping[str, Any], examples: Sequence[Encoded]
) -> Generation:
    """Return the generation of a task for a model and the examples of a split."""
    is_encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
    return Generation(task["generation"], tokenizer, is_encoder_decoder, examples)


def chosen_examples(examples: Sequence[Encoded], samples: int | float) -> list[int]:
    """Return the indices of the examples whose prompts are continued, in order.

    Args:
        examples: The examples of a split.
        samples: Their maximum number, or as a float the share of those that have a prompt.
    """
    able = [index for index, example in enumerate(examples) if PROMPT in example]
    count = math.ceil(samples * len(able)) if isinstance(samples, float) else samples
    order = np.random.default_rng(0).permutation(len(able))[:count]
    return sorted(able[i] for i in order)


def with_prompt(example: Encoded, prompt: Sequence[int], reference: str, limit: int) -> Encoded:
    """Return an example with its prompt and reference; unchanged if the prompt alone reaches the maximum length."""
    if not prompt or len(prompt) >= limit:
        return example
    return {**example, PROMPT: list(prompt), REFERENCE: reference}


def _has_virtual_tokens(model: Any) -> bool:
    config = getattr(model, "active_peft_config", None)
    return bool(getattr(config, "is_prompt_learning", False))


def _reads_whole_batch(model: Any) -> bool:
    """Return whether the adapter computes a token from all tokens of the batch, also later ones: no cache has these.

    Lily's router does (its family's `mixes_rows` in `search_spaces`).
    """
    return getattr(getattr(model, "active_peft_config", None), "peft_type", None) == "LILY"


def _until(tokens: Sequence[int], stops: set[int]) -> list[int]:
    """Return the tokens before the first one that ends a text."""
    end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])


def text_scores(generated: Sequence[str], references: Sequence[str], names: Sequence[str]) -> TextScores:
    """Return scores of generated texts; each text is stripped of white space at both ends, and nothing else.

    Args:
        generated: One text per example.
        references: The reference of each example.
        names: The names of the scores, of `TEXT_METRICS`.

    Raises:
        MissingPackageError: The package of a score is not installed.

    Example:
        >>> text_scores([" Paris\\n", "Rome"], ["Paris", "rome"], ["exact_match"]).metrics
        {'exact_match': 0.5}
    """
    found = [text.strip() for text in generated]
    wanted = [text.strip() for text in references]
    each: dict[str, Array] = {}
    if "exact_match" in names:
        equal = [one == other for one, other in zip(found, wanted, strict=True)]
        each["exact_match"] = np.array(equal, dtype=float)
    if rouge := [name for name in _ROUGE if name in names]:
        scorer = library(rouge[0]).RougeScorer(rouge)
        rows = [scorer.score(reference, text) for text, reference in zip(found, wanted, strict=True)]
        each |= {name: np.array([row[name].fmeasure for row in rows]) for name in rouge}
    metrics = {name: float(scores.mean()) for name, scores in each.items()}
    if "bleu" in names:
        metrics["bleu"] = float(library("bleu").corpus_bleu(found, [wanted]).score)
    if "chrf" in names:
        metrics["chrf"] = float(library("chrf").corpus_chrf(found, [wanted]).score)
    return TextScores({name: metrics[name] for name in names}, each)


def library(name: str) -> ModuleType:
    """Return the module that computes a score.

    Raises:
        MissingPackageError: It is not installed.
    """
    module, package = PACKAGES[name]
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"{name} needs the package {package}: pip install {package}") from error
