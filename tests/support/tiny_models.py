"""Tiny random models of every supported architecture, and the sweep of cases the contract suite runs over.

The sizes all differ, so that a formula that confuses two of them fails. Models are built once and copied, and
a case is observed once, so that the suite over the whole registry stays affordable.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY, Family
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Configuration, LayerMask, TopLayers
from search_spaces.space import SearchSpace
from tests.support.tiny_configs import CONFIGS, DEPTH
from trials.base.initialization import (
    REPLACES_WEIGHTS,
    Pass,
    initial_factors,
    initialize,
    save_adapter,
)
from trials.base.parameter_groups import freeze
from trials.base.token_choice import complete_config

BATCH, TOKENS, LABELS = 4, 12, 3
ENCODERS = (
    "bert",
    "roberta",
    "electra",
    "distilbert",
    "modernbert",
    "deberta",
    "deberta_apart",
    "t5",
    "t5_gated",
    "bart",
    "mbart",
    "deberta_v1",
    "albert",
    "mpnet",
    "xlnet",
    "longformer",
)
MAIN = ("bert", "gpt2", "llama")
"""The architectures that every family is tried on with every kind of knob."""
MASKED = (*MAIN, "deberta", "t5", "mixtral", "bart", "jamba")
"""Those where every family is tried on a mask of layers too."""
READ_ONLY = ("gemma", "phi3", "opt", "deberta_apart", "t5_gated", "longformer")
"""Architectures that are read and priced but whose adapters are not tried apart from their kin's."""
HEADLESS = ("mamba", "mamba2", "bamba", "falcon_h1", "granitemoehybrid", "lfm2", "nemotron_h")
"""Architectures for which transformers has no classification head."""
LIKE_LLAMA = ("mistral", "qwen2")
"""Decoders that are tried as language models alone."""

TASKS: tuple[TaskType, ...] = (
    *("sequence-classification", "regression", "causal-lm", "image-classification"),
    "token-classification",
)
TAGGED = MAIN
"""The architectures that are tried with a label for each token, whose head is the same in all of them."""


def build(name: str, task: TaskType) -> Any:
    """A tiny model in training mode with eager attention and without dropout of its own."""
    return copy.deepcopy(_built(name, task))


@cache
def _built(name: str, task: TaskType) -> Any:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    for field in (
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
        *("resid_pdrop", "embd_pdrop", "attn_pdrop", "seq_classif_dropout", "hidden_dropout"),
        *("pooler_dropout", "dropout_rate", "classifier_dropout", "activation_dropout"),
        *("embedding_dropout", "resid_dropout", "embed_dropout", "summary_last_dropout", "classif_dropout"),
    ):
        if getattr(config, field, None):
            setattr(config, field, 0.0)
    config._experts_implementation = "eager"  # torch counts no FLOPs of grouped products
    auto: Any = AutoModelForSequenceClassification
    if task == "causal-lm":
        auto = AutoModelForCausalLM
    else:
        config.num_labels = 1 if task == "regression" else LABELS
    if task == "image-classification":
        auto = AutoModelForImageClassification
    if task == "token-classification":
        auto = AutoModelForTokenClassification
    return auto.from_config(config, attn_implementation="eager").train()


def batch(task: TaskType, *, padded: bool = False, left: bool = False) -> dict[str, torch.Tensor]:
    """Inputs of shape [BATCH, TOKENS], every other row padded by a third where `padded`, on the right or the left;
    for images pixels of shape [BATCH, 2, 12, 12], which is a class token and 9 patches.

    Every row ends with token 1, the end of a sequence in `CONFIGS`, as T5's classifier wants.
    """
    generator = torch.Generator().manual_seed(1)
    if task == "image-classification":
        pixels = torch.randn(BATCH, 2, 12, 12, generator=generator)
        return {"pixel_values": pixels, "labels": torch.arange(BATCH) % LABELS}
    ids = torch.randint(3, 90, (BATCH, TOKENS), generator=generator)
    ids[:, -1] = 1
    mask = torch.ones_like(ids)
    if padded:
        ids[::2, -TOKENS // 3 - 1] = 1
        ids[::2, -TOKENS // 3 :] = 0
        mask[::2, -TOKENS // 3 :] = 0
        if left:
            ids[::2], mask[::2] = ids[::2].roll(TOKENS // 3, 1), mask[::2].roll(TOKENS // 3, 1)
    labels = {
        "sequence-classification": torch.arange(BATCH) % LABELS,
        "regression": torch.linspace(-1, 1, BATCH),
        "causal-lm": ids.masked_fill(mask == 0, -100),
        "token-classification": (ids % LABELS).masked_fill(mask == 0, -100),
    }[task]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def workload(task: TaskType) -> Workload:
    """What `batch` holds."""
    tokens = 10 if task == "image-classification" else TOKENS
    return Workload(tokens, tokens**2, BATCH, BATCH)


def samples(
    family: Family, *, masked: bool, drawn: int, depth: int = DEPTH, seed: int = 0
) -> Iterator[Configuration]:
    """Local configurations of a family: its default, if `masked` a mask of layers with a hole in it where the
    family can choose layers, and `drawn` others from its knobs.
    """
    space = SearchSpace(family.parameters, family.switches).bind(depth)
    yield space.default()
    masks = [
        LayerMask(name=knob.name, when=knob.when) for knob in family.parameters if isinstance(knob, TopLayers)
    ]
    if masked and masks:
        others = tuple(knob for knob in family.parameters if not isinstance(knob, TopLayers))
        mask = {f"{masks[0].name}.{layer}": layer % 3 == 1 for layer in range(depth)}
        yield {**SearchSpace((*others, *masks)).bind(depth).default(), **mask}
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
    config: Configuration

    def __str__(self) -> str:
        return f"{self.family}-{self.model}-{self.task}-{self.number}"

    @property
    def full_config(self) -> Configuration:
        """The configuration as a sweep writes it."""
        return {"family": self.family, **{f"{self.family}.{name}": v for name, v in self.config.items()}}

    @property
    def is_converted(self) -> bool:
        """Whether the adapter is saved as a difference to its initial value, which rounds."""
        preparation = REGISTRY[self.family].preparation(self.config)
        return preparation is not None and preparation.method in REPLACES_WEIGHTS

    def adapted(self, preparing: AbstractContextManager[object] | None = None) -> Any:
        """A fresh peft model; the same base weights and the same adapter at every call.

        Its initial values from data are computed in the context `preparing`.
        """
        shape = shape_of(self.model, self.task)
        model = build(self.model, self.task)
        torch.manual_seed(2)
        family = REGISTRY[self.family]
        peft_config, inputs = family.peft_config(self.config, shape, self.task), batch(self.task, padded=True)
        preparation = family.preparation(self.config)
        passes = [Pass(inputs, lambda model: model(**inputs).loss, inputs["labels"])]
        if preparation is not None:
            complete_config(peft_config, preparation.method, passes)
        adapted = get_peft_model(model, peft_config)
        if preparation is not None:
            adapted.eval()
            original = dict(build(self.model, self.task).named_parameters())
            with preparing or nullcontext():
                initialize(
                    adapted,
                    preparation.method,
                    passes,
                    lambda path: original[f"{path}.weight"] + 0.01,
                )
            adapted.train()
        freeze(adapted, family.learning_rate_factors(self.config))
        return adapted


@cache
def shape_of(model: str, task: TaskType) -> ModelShape:
    return read_shape(CONFIGS[model](), task, LABELS)


@cache
def pairs() -> tuple[tuple[str, TaskType], ...]:
    """Every architecture with every task that it can do."""
    found: list[tuple[str, TaskType]] = []
    for model in CONFIGS:
        tasks = TASKS[:2] if model in ENCODERS else TASKS[2:3] if model in HEADLESS else TASKS[:3]
        found.extend((model, task) for task in (TASKS[3:4] if model == "vit" else tasks))
        found.extend((model, TASKS[4]) for _ in range(model in TAGGED))
    return tuple(found)


@cache
def cases() -> tuple[Case, ...]:
    """Every registered family on every architecture and task it supports; more of them on `MAIN`."""
    found: list[Case] = []
    for model, task in pairs():
        if model not in MAIN and (task == "regression" or model in READ_ONLY):
            continue
        if model in LIKE_LLAMA and task != "causal-lm":
            continue
        for name, family in REGISTRY.items():
            if family.unsupported(shape_of(model, task), task) is None:
                configs = _fitted(
                    family,
                    shape_of(model, task),
                    samples(
                        family,
                        masked=model in MASKED and task not in ("regression", TASKS[4]),
                        drawn=6 if model in MAIN and task not in ("regression", TASKS[4]) else 0,
                        depth=shape_of(model, task).depth,
                        seed=len(found),
                    ),
                )
                found.extend(Case(name, model, task, number, c) for number, c in enumerate(configs))
    return tuple(found)


def _fitted(family: Family, shape: ModelShape, configs: Iterator[Configuration]) -> list[Configuration]:
    """Return the configurations with values that the model can have, as in a bound space."""
    fitted, excluded = [], family.excluded(shape)
    defaults = {parameter.name: parameter.default for parameter in family.parameters}
    for config in configs:
        wrong = [name for name, value in config.items() if value in excluded.get(name, {})]
        config = {**config, **{name: defaults[name] for name in wrong}}
        if "targets" in config:
            try:
                shape.select(str(config["targets"]))
            except ValueError:
                config = {**config, "targets": "all"}
        fitted.append(config)
    return fitted


REPRESENTATIVES = ("lora", "ia3", "norm", "composite")
"""Families that stand for the others on every architecture: a product, a rescaling, own parameters, parts."""


FEW = ("lora", "norm")
KIN = (
    *("bloom", "falcon", "falcon_new", "falcon_sequential", "gpt_neo", "gptj", "mpt", "phi", "qwen3_moe"),
    *("qwen2_moe", "mamba2", "bamba", "falcon_h1", "granitemoehybrid", "lfm2", "nemotron_h", "zamba2"),
)
"""Decoders of which the layers are those of another architecture in the tests of every run, with other names or in
another order: as language models they are tried with `FEW` families."""


def _families_of(model: str, task: TaskType) -> tuple[str, ...]:
    """Return the families that every run tests on an architecture."""
    if model not in (*ENCODERS, *MAIN) and task == TASKS[0]:  # its layers are those of the language model
        return FEW[:1]
    return FEW if model in KIN and task == TASKS[2] else REPRESENTATIVES


@cache
def pairwise() -> frozenset[Case]:
    """The cases that every run tests: each family on one architecture, each architecture with a few families.

    Families have in turn their default, and their next configuration, a mask with a hole where the family chooses
    layers, on one of `MAIN`. Regression, which differs in the head alone, is left to the slow tests.
    """
    by_place = {(c.family, c.model, c.task, c.number): c for c in cases() if c.task != "regression"}
    masked = ("mixtral", "jamba")  # peft rewrites the targets of models with experts; layers differ
    chosen = {
        c
        for c in by_place.values()
        if c.family in _families_of(c.model, c.task)
        and (c.number == 0 or (c.model in masked and c.task == TASKS[2]))
    }
    for turn, family in enumerate(REGISTRY):
        number = turn % 2
        places = [(m, t) for m, t in pairs() if m in MAIN and (family, m, t, number) in by_place]
        model, task = places[(turn + number * (len(places) // 2)) % len(places)]
        chosen.add(by_place[family, model, task, number])
    return frozenset(chosen)


def parameters(*, slow: bool, where: Callable[[Case], bool] = lambda case: True) -> list[Any]:
    """Return the cases as parameters of a test: those of `pairwise`, and with `slow` the rest, marked as slow.

    They run without coverage, which would slow them down: other tests cover what they run.
    """
    return [
        pytest.param(
            case,
            id=str(case),
            marks=[
                pytest.mark.no_cover,
                *([] if case in pairwise() else [pytest.mark.slow]),
            ],
        )
        for case in cases()
        if (slow or case in pairwise()) and where(case)
    ]


@dataclass(frozen=True)
class Observation:
    """What one case does when it is trained for a step, saved, loaded and merged.

    Args:
        adapter, head: trainable parameters.
        wrong_gradients: parameters without a finite gradient that should have one, or the reverse.
        train_flops: that torch counts in the initialization from a batch and its forward and backward pass.
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
    preparing = FlopCounterMode(display=False)
    model = case.adapted(preparing)
    inputs = batch(case.task, padded=True)
    initial = initial_factors(model) if case.is_converted else None
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = sum(p.numel() for name, p in trained.items() if "modules_to_save" in name)
    before = logits(model, inputs)
    train_flops = step(model, inputs) + preparing.get_total_flops()
    wrong = [
        name
        for name, p in model.named_parameters()
        if (p.grad is not None and bool(p.grad.isfinite().all())) != (name in trained)
    ]
    after = logits(model, inputs)
    with TemporaryDirectory() as folder:
        save_adapter(model, folder, initial)
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
