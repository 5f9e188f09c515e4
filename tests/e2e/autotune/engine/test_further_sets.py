"""Further data sets: scored once per trial, beside the base model, and usable as objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError
from tests.support.sweeps import SPACE, small_sweep

TEXTS = ["the film was good", "a story was the film", "the good story", "a film"] * 10


def language_sweep(model: Path, data: Path, general: Path, **changes: object) -> Sweep:
    given = {
        "name": "further",
        "model": {"name": str(model), "precision": "fp32"},
        "task": {
            "type": "causal-lm",
            **dict.fromkeys(("train", "validation", "test"), str(data)),
            "text": "text",
            "max_length": 16,
            "also": [{"name": "general", "data": str(general), "metric": "perplexity", "limit": 20}],
        },
        "space": {**SPACE, "families": ["lora"]},
        "objectives": ["eval_loss", "general_forgetting", "trainable_params"],
        "budget": {"trials": 2},
        "confirm": {"seeds": 1, "points": 1},
        "executor": "packed",
        **changes,
    }
    return parse_sweep(given)


def test_a_retention_set_shows_what_is_forgotten(
    tiny_model: Callable[[str], Path], write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_jsonl("data.jsonl", [{"text": text} for text in TEXTS])
    general = write_jsonl("general.jsonl", [{"text": text[::-1]} for text in TEXTS])
    results = run_sweep(language_sweep(tiny_model("gpt2"), data, general), tmp_path / "out")
    trials, runs = results.trials, results.confirmations
    base = trials["metric.general"] - trials["general_forgetting"]
    assert base.max() - base.min() < 1e-9 * base.max()  # every trial is compared with the same base model
    assert trials["general_forgetting"].abs().gt(0).all()
    assert runs["metric.general"].gt(0).all()
    objective = results.objectives[1]
    assert (objective.direction, objective.reference, objective.ideal) == ("minimize", None, None)
    assert any("general: 20 of 40 examples are scored" in note for note in results.notes)
    assert math.isfinite(results.hypervolume)
    general.write_text('{"text": "another text"}\n' * 40)
    with pytest.raises(InvalidInputError, match=r"task\.also: the data changed since the sweep began"):
        run_sweep(results.sweep, tmp_path / "out")


def test_a_classifier_is_scored_on_another_domain(
    tiny_model: Callable[[str], Path], reviews: Path, write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    domain = write_jsonl("domain.jsonl", [{"sentence": t, "label": i % 2} for i, t in enumerate(TEXTS)])
    task = small_sweep(tiny_model("bert"), reviews).task.model_dump()
    also = [{"name": "domain", "data": str(domain), "metric": "accuracy", "limit": None}]
    sweep = small_sweep(
        tiny_model("bert"),
        reviews,
        task={**task, "also": also},
        objectives=["accuracy", "domain", "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
        executor="packed",
    )
    trials = run_sweep(sweep, tmp_path / "out").trials
    assert trials["domain"].between(0, 1).all()
    assert "metric.domain_forgetting" not in trials  # the head of the base model is untrained


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "perplexity"}, "no head that predicts the next token"),
        ({"type": "causal-lm", "metric": "perplexity"}, "cannot score causal-lm"),
        ({"name": "accuracy", "metric": "f1"}, "is the name of another score"),
        ({"metric": "acc"}, "is not a metric"),
    ],
)
def test_sets_that_the_model_cannot_score_are_refused(
    tiny_model: Callable[[str], Path], reviews: Path, fields: dict[str, str], message: str
) -> None:
    task = small_sweep(tiny_model("bert"), reviews).task.model_dump()
    also = [{"name": "general", "data": str(reviews / "test.tsv"), **fields}]
    with pytest.raises(InvalidInputError, match=message):
        small_sweep(tiny_model("bert"), reviews, task={**task, "also": also})


def test_other_classes_are_refused(
    tiny_model: Callable[[str], Path], reviews: Path, write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    domain = write_jsonl("domain.jsonl", [{"sentence": "a film", "label": 7}])
    task = small_sweep(tiny_model("bert"), reviews).task.model_dump()
    also = [{"name": "domain", "data": str(domain), "metric": "accuracy"}]
    sweep = small_sweep(tiny_model("bert"), reviews, task={**task, "also": also})
    with pytest.raises(
        InvalidInputError, match=r"task\.also\[0\]\.label: .*label 7, which train does not have"
    ):
        run_sweep(sweep, tmp_path / "out")
