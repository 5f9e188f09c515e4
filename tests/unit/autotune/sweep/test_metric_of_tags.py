"""The metric of tags that follows from the objectives."""

from __future__ import annotations

import pytest

from autotune.sweep.sweep_file import parse_sweep


@pytest.mark.parametrize(
    ("objectives", "named", "metric"),
    [
        (["token_accuracy", "trainable_params"], None, "token_accuracy"),
        ([{"name": "token_accuracy"}, "eval_loss"], None, "token_accuracy"),
        (["token_accuracy", "entity_recall"], None, "entity_f1"),
        (["eval_loss", "trainable_params"], None, "entity_f1"),
        (["token_accuracy", "trainable_params"], "entity_recall", "entity_recall"),
    ],
)
def test_token_accuracy_alone_is_the_metric(objectives, named, metric):
    task = {"type": "token-classification", "train": "tags.jsonl", "text": "words", "label": "tags"}
    task |= {"metric": named} if named else {}
    content = {"name": "x", "model": "m", "task": task, "objectives": objectives, "budget": {"trials": 1}}
    sweep = parse_sweep(content, check_files=False)
    assert sweep.task.metric == metric
