"""Tiny random models of every supported architecture, and the sweep of cases the contract suite runs over.

The sizes all differ, so that a formula that confuses two of them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from search_spaces.families import REGISTRY, Family
from search_spaces.families.tools import freeze
from search_spaces.parameters import Config, LayerMask, TopLayers
from search_spaces.shapes import ModelShape, TaskType, read_shape
from search_spaces.space import SearchSpace

DEPTH, BATCH, TOKENS, LABELS = 3, 4, 12, 3
_BERT = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 56,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2}
_MARKS = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**_BERT),
    "gpt2": lambda: GPT2Config(vocab_size=90, n_embd=32, n_layer=DEPTH, n_head=4, n_inner=56, pad_token_id=0),
    "llama": lambda: LlamaConfig(**_LLAMA),
    "roberta": lambda: RobertaConfig(**_BERT),
    "electra": lambda: ElectraConfig(**_BERT, embedding_size=20),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=90, dim=32, n_layers=DEPTH, n_heads=4, hidden_dim=56, pad_token_id=0
    ),
    "modernbert": lambda: ModernBertConfig(**_BERT, **_MARKS),
    "mistral": lambda: MistralConfig(**_LLAMA),
    "qwen2": lambda: Qwen2Config(**_LLAMA),
    "qwen3": lambda: Qwen3Config(**_LLAMA, head_dim=12),
    "gpt_neox": lambda: GPTNeoXConfig(**_BERT),
}
ENCODERS = ("bert", "roberta", "electra", "distilbert", "modernbert")
MAIN = ("bert", "gpt2", "llama")
"""The architectures that every family is tried on with every kind of knob."""
LIKE_LLAMA = ("mistral", "qwen2")
"""Architectures whose shape is read but whose adapters are not tried apart from Llama's."""

TASKS: tuple[TaskType, ...] = ("sequence-classification", "regression", "causal-lm")


def build(name: str, task: TaskType) -> Any:
    """A tiny model in training mode with eager attention and without dropout of its own."""
    torch.manual_seed(0)
    config = CONFIGS[name]()
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, field):
            setattr(config, field, 0.0)
    for field in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "seq_classif_dropout", "hidden_dropout"):
        if hasattr(config, field):
            setattr(config, field, 0.0)
    if task == "causal-lm":
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
    config.num_labels = 1 if task == "regression" else LABELS
    return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").train()


def batch(task: TaskType, *, padded: bool = False) -> dict[str, torch.Tensor]:
    """Inputs of shape [BATCH, TOKENS], every other row padded on the right by a third where `padded`."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 90, (BATCH, TOKENS), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        ids[::2, -TOKENS // 3 :] = 0
        mask[::2, -TOKENS // 3 :] = 0
    labels = {
        "sequence-classification": torch.arange(BATCH) % LABELS,
        "regression": torch.linspace(-1, 1, BATCH),
        "causal-lm": ids.masked_fill(mask == 0, -100),
    }[task]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def samples(family: Family, *, drawn: int, seed: int = 0) -> Iterator[Config]:
    """Local configurations of a family: its default, a mask of layers with a hole in it if the family can
    choose layers, and `drawn` others from its knobs.
    """
    space = SearchSpace(family.knobs, family.switches).bind(DEPTH)
    yield space.default()
    masks = [
        LayerMask(name=knob.name, when=knob.when) for knob in family.knobs if isinstance(knob, TopLayers)
    ]
    if masks:
        others = tuple(knob for knob in family.knobs if not isinstance(knob, TopLayers))
        mask = {f"{masks[0].name}.0": False, f"{masks[0].name}.1": True, f"{masks[0].name}.2": False}
        yield {**SearchSpace((*others, *masks)).bind(DEPTH).default(), **mask}
    rng = np.random.default_rng(seed)
    for _ in range(drawn):
        yield space.sample(rng)


@dataclass(frozen=True, eq=False)
class Case:
    """One local configuration of one registered family on one architecture and task."""

    family: str
    model: str
    task: TaskType
    number: int
    config: Config

    def __str__(self) -> str:
        return f"{self.family}-{self.model}-{self.task}-{self.number}"

    @property
    def full_config(self) -> Config:
        """The configuration as a sweep writes it."""
        return {"family": self.family, **{f"{self.family}.{name}": v for name, v in self.config.items()}}

    def adapted(self) -> Any:
        """A fresh peft model; the same base weights and the same adapter at every call."""
        shape = shape_of(self.model, self.task)
        model = build(self.model, self.task)
        torch.manual_seed(2)
        family = REGISTRY[self.family]
        adapted = get_peft_model(model, family.peft_config(self.config, shape, self.task))
        freeze(adapted, family.learning_rate_factors(self.config))
        return adapted


@cache
def shape_of(model: str, task: TaskType) -> ModelShape:
    return read_shape(CONFIGS[model](), task, LABELS)


@cache
def pairs() -> tuple[tuple[str, TaskType], ...]:
    """Every architecture with every task that it can do."""
    return tuple((m, task) for m in CONFIGS for task in TASKS if task != "causal-lm" or m not in ENCODERS)


@cache
def cases() -> tuple[Case, ...]:
    """Every registered family on every architecture and task it supports; more of them on `MAIN`."""
    found = []
    for model, task in pairs():
        if model not in MAIN and (task == "regression" or model in LIKE_LLAMA):
            continue
        for name, family in REGISTRY.items():
            if family.unsupported(shape_of(model, task), task) is None:
                configs = list(samples(family, drawn=2 if model in MAIN else 0, seed=len(found)))
                configs = configs[:1] if task == "regression" else configs
                found.extend(Case(name, model, task, number, c) for number, c in enumerate(configs))
    return tuple(found)


@dataclass(frozen=True)
class Observation:
    """What one case does when it is trained for a step, saved, loaded and merged.

    Args:
        adapter, head: trainable parameters.
        wrong_gradients: parameters without a finite gradient that should have one, or the reverse.
        train_flops: that torch counts in the forward and backward pass of one batch.
        change, reload_error, merge_error: the largest difference of the logits made by the step, by saving
            and loading, and by merging (None where the family does not merge).
        stored_bytes: of the tensors in the saved file.
        inference_flops: that torch counts for one sample, merged where the family merges, loaded where not.
    """

    adapter: int
    head: int
    wrong_gradients: tuple[str, ...]
    train_flops: int
    change: float
    stored_bytes: int
    reload_error: float
    merge_error: float | None
    inference_flops: int


@cache
def observe(case: Case) -> Observation:
    """Run one case once, for all the tests that look at it."""
    model, inputs = case.adapted(), batch(case.task, padded=True)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = sum(p.numel() for name, p in trained.items() if "modules_to_save" in name)
    before = logits(model, inputs)
    train_flops = step(model, inputs)
    wrong = [
        name
        for name, p in model.named_parameters()
        if (p.grad is not None and bool(p.grad.isfinite().all())) != (name in trained)
    ]
    after = logits(model, inputs)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        tensors = load_file(f"{folder}/adapter_model.safetensors").values()
        loaded = PeftModel.from_pretrained(build(case.model, case.task), folder)
    merge_error = None
    if REGISTRY[case.family].cost(case.config, shape_of(case.model, case.task)).mergeable:
        model.merge_adapter()
        merge_error = largest(logits(model, inputs) - after)
    served = loaded if merge_error is None else model
    with FlopCounterMode(display=False) as inference:
        logits(served, {name: tensor[:1] for name, tensor in inputs.items()})
    return Observation(
        adapter=sum(p.numel() for p in trained.values()) - head,
        head=head,
        wrong_gradients=tuple(wrong),
        train_flops=train_flops,
        change=largest(after - before),
        stored_bytes=sum(t.numel() * t.element_size() for t in tensors),
        reload_error=largest(logits(loaded, inputs) - after),
        merge_error=merge_error,
        inference_flops=inference.get_total_flops(),
    )


def step(model: torch.nn.Module, inputs: dict[str, torch.Tensor], size: float = 0.1) -> int:
    """Move every parameter by `size` against its gradient's sign; returns the FLOPs of the two passes."""
    model.train()
    with FlopCounterMode(display=False) as counter:
        model(**inputs).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter.sub_(parameter.grad.sign(), alpha=size)
    return counter.get_total_flops()


def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(**{name: tensor for name, tensor in inputs.items() if name != "labels"}).logits


def largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max())
