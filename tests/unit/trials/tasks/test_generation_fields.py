"""The section `generation` of a task: when it is there, what it scores, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from autotune.sweep.data_version import at_data_version
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, parse_sweep
from search_spaces.errors import InvalidInputError
from trials.data.notes import Notes
from trials.data.prompts import note_generation
from trials.records import TrialResult
from trials.tasks.generation_spec import GenerationSpec
from trials.tasks.specs import TaskSpec

NAMED = {"train": "/data/train.jsonl", "prompt": "p", "completion": "c"}
TEACHER_FORCED = "teacher_forced_exact_match"


def task(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"type": "causal-lm", **NAMED, **fields})


def sweep(objectives: list[Any], **fields: Any) -> Sweep:
    content = {"type": "causal-lm", **NAMED, **fields}
    return parse_sweep(
        {
            "name": "s",
            "model": "gpt2",
            "task": content,
            "objectives": objectives,
            "budget": {"trials": 2},
        },
        check_files=False,
    )


def test_nothing_is_generated_unless_a_score_needs_it() -> None:
    assert task().generation is None
    assert sweep(["perplexity", "trainable_params"]).task.generation is None


def test_the_metric_and_the_objectives_are_scored_besides_exact_match() -> None:
    assert task(metric="rougeL").generation == GenerationSpec(metrics=("exact_match", "rougeL"))
    found = sweep(["bleu", "chrf", "train_flops"], metric="rouge1").task.generation
    assert found == GenerationSpec(metrics=("exact_match", "rouge1", "bleu", "chrf"))
    given = sweep(["bleu"], generation={"metrics": ["rouge2"], "samples": "25%"}).task.generation
    assert given == GenerationSpec(metrics=("rouge2", "bleu"), samples=0.25)


def test_a_sweep_file_is_read_as_it_was_written() -> None:
    before = sweep(["bleu", "train_flops"], generation={"samples": "all", "max_new_tokens": 7})
    assert parse_sweep(as_mapping(before), check_files=False) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None, "completion": None, "text": "t", "metric": "bleu"}, "no prompts to continue"),
        (
            {"type": "regression", "prompt": None, "completion": None, "text": "t", "label": "l"},
            "regression has no scores of generated text",
        ),
        ({"generation": {"samples": 0}}, "0 is neither a number nor a share"),
        ({"generation": {"samples": "200%"}}, "'200%' is neither"),
        ({"generation": {"metrics": ["rougel"]}}, "'rougel' does not score.*Did you mean 'rougeL'"),
        ({"generation": {"temperature": 0.5}}, "0.5 is for sampling.*do_sample: true"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        sweep(["eval_loss"], **{"generation": {}, **fields})


def test_in_earlier_data_versions_exact_match_was_teacher_forced() -> None:
    assert task(metric="exact_match", data_version=2).metric == TEACHER_FORCED
    old = sweep([{"name": "exact_match", "min": 0.5}], metric="exact_match", data_version=1)
    assert [(o.name, o.min) for o in old.objectives] == [(TEACHER_FORCED, 0.5)]
    assert old.task.generation is None
    new = sweep([{"name": "exact_match", "min": 0.5}], metric="exact_match")
    assert new.task.generation is not None
    assert at_data_version(new, 1) == old, "a folder keeps the meaning of its first run"


def test_scores_of_earlier_results_get_todays_name() -> None:
    metrics = {"eval_loss": 1.0, "token_accuracy": 0.5, "exact_match": 0.25}
    stored = {
        "status": "complete",
        "metrics": metrics,
        "curve": [{"step": 1, "samples": 2, "metrics": metrics}],
    }
    found = TrialResult.from_json(stored)
    renamed = {"eval_loss": 1.0, "token_accuracy": 0.5, TEACHER_FORCED: 0.25}
    assert found.metrics == found.curve[0].metrics == renamed
    both = {**renamed, "exact_match": 0.75}
    assert TrialResult.from_json({**stored, "metrics": both, "curve": []}).metrics == both


def test_a_package_that_is_missing_is_named_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(InvalidInputError, match=r"rouge1 needs .* rouge-score.*autotune-peft\[generation\]"):
        note_generation(GenerationSpec(metrics=("rouge1",)), {}, None, Notes())
