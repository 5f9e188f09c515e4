"""A text has the same logits by itself and in a batch, for the classifier of each architecture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.tiny_models import TASKS, build, pairs
from trials.reading.encoding import padded as padded_inputs
from trials.reading.special_tokens import match_tokens

PAD, EOS = 0, 1
CLASSIFIERS = [name for name, task in pairs() if task == TASKS[0]]


def texts() -> list[list[int]]:
    """Texts of different lengths that end with the end-of-text token; one contains the token 7."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randint(10, 90, (n,), generator=generator).tolist() for n in (9, 4, 6, 2)]
    drawn[2][-1] = 7
    return [[*ids, EOS] for ids in drawn]


def logits(model: Any, rows: list[list[int]], left: bool = False) -> torch.Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([padded(row, width, PAD, left) for row in rows])
    mask = torch.tensor([padded([1] * len(row), width, 0, left) for row in rows])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def padded(row: list[int], width: int, filler: int, left: bool) -> list[int]:
    missing = [filler] * (width - len(row))
    return missing + row if left else row + missing


def gap(model: Any, left: bool = False) -> float:
    """Return the largest difference of a logit between a text by itself and in the batch."""
    each = torch.cat([logits(model, [row]) for row in texts()])
    return float((logits(model, texts(), left) - each).abs().max())


@pytest.mark.parametrize("given", [None, 7, EOS])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_text_has_the_same_logits_alone_and_in_a_batch(name, given):
    model = build(name, "sequence-classification").eval()
    model.config.pad_token_id = given
    if model.config.is_encoder_decoder:
        model.config.eos_token_id = 7
        model.config.pad_token_id = PAD if given is None else given  # it builds the decoder's input with it
    tokenizer: Any = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
    match_tokens(model, tokenizer)
    assert gap(model, tokenizer.head_reads_last_position) < 2e-6


def test_xlnet_is_padded_on_the_left():
    """Its head reads the last position, whatever is there."""
    model = build("xlnet", "sequence-classification").eval()
    tokenizer: Any = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS, sides=[])
    tokenizer.pad = lambda rows, padding_side, return_tensors: tokenizer.sides.append(padding_side) or {}
    for network in (model, build("bert", "sequence-classification")):
        match_tokens(network, tokenizer)
        padded_inputs([{"input_ids": [5], "labels": 0}], tokenizer)
    assert tokenizer.sides == ["left", "right"]
    assert gap(model, left=False) > 1e-4


def test_another_padding_id_would_read_another_token():
    model = build("llama", "sequence-classification").eval()
    model.config.pad_token_id = 7
    assert gap(model) > 1e-3


def test_positions_that_start_after_the_padding_id_stay():
    model = build("roberta", "sequence-classification").eval()
    before = logits(model, texts()[:1])
    match_tokens(model, SimpleNamespace(pad_token_id=5, eos_token_id=EOS))
    assert torch.equal(logits(model, texts()[:1]), before)
    assert model.config.pad_token_id == PAD  # as it is saved with the adapter, and built again
