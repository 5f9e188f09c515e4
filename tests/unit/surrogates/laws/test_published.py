"""Published laws: coefficients against published measurements, domains, and refusals that name the bound."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search_spaces.errors import InvalidInputError
from surrogates.laws.published import LAWS, PURPOSES, QUANTITIES, advise

DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data"))
needs_data = pytest.mark.skipif(
    not (DATA / "steplaw" / "dense.csv").is_file(), reason="needs ../shared/data or $AUTOTUNE_DATA"
)
STEP_LAW = {"params": 1e9, "tokens": 2e10}


@needs_data
def test_the_step_law_is_close_to_the_best_of_every_published_grid() -> None:
    table = pd.read_csv(DATA / "steplaw" / "dense.csv")
    excess = []
    for (params, tokens), cell in table.groupby(["non_embedding_params", "tokens"]):
        found = advise({"params": params, "tokens": tokens}).suggestions[0]
        assert found.law.name == "step-law"
        assert found.batch_tokens is not None
        rate = np.log(cell["learning_rate"] / found.learning_rate)
        batch = np.log(cell["batch_size_sequences"] * 2048 / found.batch_tokens)
        loss = cell["smooth_loss"]
        excess.append(loss[(rate**2 + batch**2).idxmin()] / loss.min() - 1)
    assert len(excess) == 17
    assert np.mean(excess) == pytest.approx(0.000957, abs=2e-6)
    assert max(excess) < 0.0032


@needs_data
def test_the_laws_of_lora_are_close_to_the_best_of_the_published_sweep() -> None:
    table = pd.read_csv(DATA / "lora_grid" / "sft_sweep.csv")
    models = {
        "meta-llama/Llama-3.2-1B": (2048, "llama"),
        "meta-llama/Llama-3.1-8B": (4096, "llama"),
        "meta-llama/Llama-3.3-70B-Instruct": (8192, "llama"),
        "Qwen/Qwen3-8B": (4096, "qwen3"),
        "Qwen/Qwen3-30B-A3B-Base": (2048, "qwen3"),
        "Qwen/Qwen3-32B": (5120, "qwen3"),
        "Qwen/Qwen3-235B-A22B-Instruct-2507": (4096, "qwen3"),
    }
    excess = []
    for (model, rank), runs in table[table["model"].isin(models)].groupby(["model", "lora_rank"]):
        hidden, family = models[model]
        (found,) = advise({"hidden": hidden, "rank": rank}, "lora", family).suggestions
        runs = runs.sort_values("learning_rate")
        nll = np.interp(np.log(found.learning_rate), np.log(runs["learning_rate"]), runs["test_nll"])
        excess.append(nll / runs["test_nll"].min() - 1)
    assert np.mean(excess) < 0.005
    assert max(excess) < 0.016


def values(name: str, at: dict[str, float]) -> list[float]:
    """Return the learning rate and the batch of a law at quantities that may lie outside its domain."""
    law = next(each for each in LAWS if each.name == name)
    return [formula(at) for formula in (law.learning_rate, law.batch) if formula is not None]


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        # DeepSeek LLM 7B was trained on 2e12 tokens with these values.
        ("deepseek", {"flops": 6 * 6.5e9 * 2e12}, [4.2e-4, 2304 * 4096]),
        ("porian", {"params_with_head": 1.08e8}, [0.0047, 160 * 2048]),
    ],
)
def test_a_law_returns_the_values_of_its_paper(
    name: str, at: dict[str, float], expected: list[float]
) -> None:
    assert values(name, at) == pytest.approx(expected, rel=0.05)


def test_every_law_names_known_quantities_and_a_domain() -> None:
    for law in LAWS:
        assert law.purpose in PURPOSES
        assert all([law.domain, law.needs, law.source, law.setting])
        assert set(law.needs) <= set(QUANTITIES)
        assert set(law.domain) <= {*QUANTITIES, "tokens_per_param"}


def test_a_law_outside_its_domain_is_refused_with_the_bound() -> None:
    advice = advise(STEP_LAW)
    assert [each.law.name for each in advice.suggestions] == ["step-law", "kaplan"]
    reasons = {each.law.name: each.reasons for each in advice.refusals}
    assert reasons["deepseek"] == ("flops = 1.2e+20 is above 1e+20",)
    assert any(
        "params_with_head (parameters without embeddings, with the output layer)" in r
        for r in reasons["porian"]
    )
    assert advice.learning_rates == pytest.approx((3.48e-4, 9.96e-4), rel=0.01)
    assert "6 · params · tokens" in advice.notes[0]


def test_rounded_bounds_are_inside_and_others_are_not() -> None:
    names = [each.law.name for each in advise({"params": 1.15e9, "tokens": 2e10}).suggestions]
    assert "step-law" in names
    names = [each.law.name for each in advise({"params": 1.25e9, "tokens": 2e10}).suggestions]
    assert "step-law" not in names


def test_no_number_is_given_where_no_law_covers_the_target() -> None:
    with pytest.raises(InvalidInputError) as caught:
        advise({"params": 7e10, "tokens": 2e13})
    (problem,) = caught.value.problems
    assert "no published law covers this target" in problem.what
    assert "kaplan: params = 7e+10 is above 1.5e+09" in problem.what
    assert "params 768 to 1.5e+09" in problem.fix


def test_a_law_of_one_model_family_needs_the_family() -> None:
    advice = advise({"hidden": 4096}, "lora", "llama")
    assert [each.law.name for each in advice.suggestions] == ["lora-llama"]
    assert advice.batches is None
    with pytest.raises(InvalidInputError, match="family=llama"):
        advise({"hidden": 4096}, "lora")


@pytest.mark.parametrize(
    ("at", "purpose", "words"),
    [
        ({"parms": 1e9}, "pretraining", "Did you mean 'params'"),
        ({"params": -1.0}, "pretraining", "positive"),
        (STEP_LAW, "lorra", "Did you mean 'lora'"),
    ],
)
def test_unknown_names_and_values_are_refused(at: dict[str, float], purpose: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        advise(at, purpose)
