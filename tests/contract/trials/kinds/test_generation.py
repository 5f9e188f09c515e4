"""Generated text is what a loop of full forward passes would write, one prompt at a time, for every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.packs import alone, packed, spec
from tests.support.task_samples import task_sample
from tests.support.tiny_models import Case, cases
from trials.execution.runner import Runner
from trials.kinds.generation import Generation, chosen_examples, text_scores
from trials.reading.encoding import PROMPT, REFERENCE
from trials.records import Fidelity, TrialResult, TrialSpec
from trials.tasks.generation_spec import GenerationSpec
from trials.training.held_out import SAMPLES

NEW = 6
FIELDS = GenerationSpec(max_new_tokens=NEW, samples=1.0, batch_size=4).model_dump()
LENGTHS = (5, 9, 3, 9, 7)
MECHANISMS = ("lora", "prompt", "p_tuning", "prefix", "layer-prefix", "lily", "serial", "molora", "full")
"""Families that every run tests: products, virtual tokens, prefixes, routers, parts in sequence, no adapter."""


def parameters() -> list[Any]:
    chosen = [c for c in cases() if c.task == "causal-lm" and c.model in ("llama", "gpt2") and c.number == 0]
    return [
        pytest.param(case, id=str(case), marks=[] if case.family in MECHANISMS else [pytest.mark.slow])
        for case in chosen
    ]


class Digits:
    """A tokenizer whose text is the ids."""

    pad_token_id, eos_token_id, all_special_ids = 0, 1, (0, 1)

    def pad(self, rows: list[dict[str, list[int]]], padding_side: str, return_tensors: str) -> Any:
        longest = max(len(row["input_ids"]) for row in rows)
        found: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": []}
        for row in rows:
            for name, values in row.items():
                rest = [0] * (longest - len(values))
                found[name].append(rest + values if padding_side == "left" else values + rest)
        return {name: torch.tensor(values) for name, values in found.items()}

    def decode(self, ids: list[int], **options: bool) -> str:
        return " ".join(map(str, ids))


def greedy(model: Any, prompt: list[int], stops: set[int]) -> str:
    """Return the most probable continuation by full forward passes, without a cache and without padding."""
    ids = list(prompt)
    while len(ids) < len(prompt) + NEW:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits
        token = int(logits[0, -1].argmax())
        if token in stops:
            break
        ids.append(token)
    return " ".join(map(str, ids[len(prompt) :]))


@pytest.mark.parametrize("case", parameters())
def test_batches_with_a_cache_generate_what_a_plain_loop_does(case: Case) -> None:
    model = case.adapted().eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    rng = np.random.default_rng(3)
    prompts = [rng.integers(3, 60, length).tolist() for length in LENGTHS]
    examples = [{PROMPT: prompt, REFERENCE: "", "labels": [-100]} for prompt in prompts]
    own = model.get_base_model().generation_config
    generation = Generation(FIELDS, Digits(), False, examples)
    texts: dict[int, str] = {}
    for indices in generation.batches(model):
        texts |= dict(zip(indices, generation.generate(model, indices), strict=True))
    assert model.get_base_model().generation_config is own
    stops = generation._stops(own.eos_token_id)
    assert [texts[i] for i in range(len(prompts))] == [greedy(model, prompt, stops) for prompt in prompts]


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Runner:
    model, task = task_sample("causal-lm", tmp_path_factory.mktemp("data"), tiny_model)
    section = GenerationSpec(max_new_tokens=5, samples=0.5, metrics=("exact_match", "rougeL", "chrf"))
    return Runner(model, task.model_copy(update={"metric": "rougeL", "generation": section}))


def trial(runner: Runner, **fidelity: Any) -> TrialSpec:
    found = spec(runner, "lora", epochs=1, **{"lora.learning_rate": 0.02})
    return TrialSpec(found.config, 3, Fidelity(evaluations=2, **fidelity), score_test=True)


def test_text_is_generated_at_the_end_of_a_run_and_in_a_pack_alike(runner: Runner) -> None:
    one = alone(runner, trial(runner))
    (together,) = packed(runner, [trial(runner)])
    assert one.error is None
    names = {"exact_match", "rougeL", "chrf"}
    assert [names <= set(point.metrics) for point in one.curve] == [False, True]
    assert names <= set(one.metrics) & set(one.test_metrics)
    assert {name: together.metrics[name] for name in names} == {name: one.metrics[name] for name in names}
    assert {"exact_match", "rougeL"} <= set(one.example_scores), "they are means over texts"
    assert "chrf" not in one.example_scores
    assert 1 <= len(one.text_samples) <= SAMPLES
    assert together.text_samples == one.text_samples
    stored = json.loads(json.dumps(one.to_json()))
    assert TrialResult.from_json(stored) == one
    del stored["text_samples"]
    assert TrialResult.from_json(stored).text_samples == (), "results of earlier versions have none"
    scores = runner.run(TrialSpec({}, 0, Fidelity())).metrics
    assert names <= set(scores), "the base model is the baseline"


def test_each_evaluation_generates_where_one_of_them_is_chosen(runner: Runner) -> None:
    result = alone(runner, trial(runner, score="best"))
    assert all("rougeL" in point.metrics for point in result.curve)


def test_prompts_and_references_are_those_of_the_data(runner: Runner) -> None:
    data = runner.data
    assert all(PROMPT not in example for example in data.splits["train"]), (
        "text is generated for held-out ones"
    )
    for example, question, answer in zip(
        data.splits["validation"],
        data.raw["validation"]["question"],
        data.raw["validation"]["answer"],
        strict=True,
    ):
        assert data.tokenizer.decode(example[PROMPT], skip_special_tokens=True) == question
        assert example[REFERENCE] == answer
    note = next(note for note in data.notes if note.startswith("generation"))
    assert note == (
        "generation: greedy, at most 5 new tokens, for 12 of 24 validation examples and 12 of 24 test examples"
    )


def test_a_smaller_part_is_within_a_larger_one(runner: Runner) -> None:
    examples = runner.data.splits["validation"]
    few, many = (chosen_examples(examples, samples) for samples in (5, 0.5))
    assert len(few) == 5
    assert set(few) < set(many)


def test_sampled_texts_are_those_of_the_seed(runner: Runner) -> None:
    def texts(seed: int) -> list[str]:
        section = GenerationSpec(do_sample=True, temperature=1.5, seed=seed, max_new_tokens=5).model_dump()
        generation = Generation(section, runner.data.tokenizer, False, runner.data.splits["test"])
        return generation.generate(runner.base.model, range(6))

    before = torch.random.get_rng_state()
    first = texts(0)
    assert torch.equal(torch.random.get_rng_state(), before), "training draws what it would draw"
    assert first == texts(0) != texts(1)
    assert text_scores(first, first, ["exact_match"]).metrics == {"exact_match": 1.0}
