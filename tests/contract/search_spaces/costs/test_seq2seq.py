"""FLOPs of encoder-decoders that write texts of another length than they read, against those that torch counts."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSeq2SeqLM

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from tests.support.tiny_configs import CONFIGS
from tests.support.tiny_models import samples
from trials.base.parameter_groups import freeze

BATCH, READ, WRITTEN = 4, 12, 7
WORKLOAD = Workload(READ, READ**2, BATCH, BATCH, target_tokens=WRITTEN, target_square=WRITTEN**2)
EXACT = 1e-9
TARGETS = ("all", "cross-attention", "decoder.k", "encoder.q+v")
CASES = [
    *(("lora", {"targets": targets, "rank": 3}) for targets in TARGETS),
    *((family, None) for family in ("ia3", "half", "top-layers", "composite", "serial", "molora", "norm")),
]


@cache
def network(name: str) -> tuple[Any, ModelShape]:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    if config.decoder_start_token_id is None:
        config.decoder_start_token_id = 0
    model = AutoModelForSeq2SeqLM.from_config(copy.deepcopy(config), attn_implementation="eager")
    return model.train(), read_shape(config, "seq2seq")


@pytest.mark.parametrize(("family", "config"), CASES)
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_training_flops_are_those_that_torch_counts(name: str, family: str, config: dict | None) -> None:
    model, shape = network(name)
    of = REGISTRY[family]
    chosen = config or next(samples(of, masked=False, drawn=0, depth=shape.depth))
    adapted = get_peft_model(copy.deepcopy(model), of.peft_config(chosen, shape, "seq2seq"))
    freeze(adapted, of.learning_rate_factors(chosen))
    ids, labels = torch.full((BATCH, READ), 5), torch.full((BATCH, WRITTEN), 6)
    with FlopCounterMode(display=False) as counter:
        adapted(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
    costs = CostModel(shape, "seq2seq", WORKLOAD)
    found = costs({"family": family, **{f"{family}.{key}": value for key, value in chosen.items()}})
    assert found.train_flops == pytest.approx(counter.get_total_flops(), rel=EXACT)
    assert found.trainable_params == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["t5", "bart", "mbart"])
def test_the_head_is_the_output_embeddings(name: str) -> None:
    _, shape = network(name)
    assert [matrix.name for matrix in shape.head] == ["lm_head"]
    assert (shape.head_parameters, shape.labels, shape.flops_are_estimates) == (0, 0, False)
    for family in ("prompt", "prefix", "head"):
        assert REGISTRY[family].unsupported(shape, "seq2seq")
