"""A text has the same logits by itself and in a batch, for the classifier of each architecture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.tiny_models import TASKS, build, pairs
from trials.reading.special_tokens import match_tokens

PAD, EOS = 0, 1
CLASSIFIERS = [name for name, task in pairs() if task == TASKS[0]]


def texts() -> list[list[int]]:
    """Texts of different lengths that end with the end-of-text token; one contains the token 7."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randint(10, 90, (n,), generator=generator).tolist() for n in (9, 4, 6, 2)]
    drawn[2][-1] = 7
    return [[*ids, EOS] for ids in drawn]


def logits(model: Any, rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def gap(model: Any) -> float:
    """Return the largest difference of a logit between a text by itself and in the batch."""
    each = torch.cat([logits(model, [row]) for row in texts()])
    return float((logits(model, texts()) - each).abs().max())


@pytest.mark.parametrize("given", [None, 7, EOS])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_text_has_the_same_logits_alone_and_in_a_batch(name, given):
    model = build(name, "sequence-classification").eval()
    model.config.pad_token_id = given
    if model.config.is_encoder_decoder:
        model.config.eos_token_id = 7
        model.config.pad_token_id = PAD if given is None else given  # it builds the decoder's input with it
    match_tokens(model, SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS))
    assert gap(model) < 2e-6


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
