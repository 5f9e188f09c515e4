"""What every kind of task keeps: its loss is the model's own, a pack trains the same, and its scores have bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.packs import COMMON, agree, alone, packed, spec
from tests.support.task_samples import SAMPLES, task_sample
from trials.execution.runner import Runner
from trials.kinds.kind import doubles, joined
from trials.kinds.registry import KINDS, find_kind
from trials.tasks.metrics import metric_of, metric_range, metrics_for
from trials.training.evaluation import evaluate
from trials.training.references import with_references


@pytest.fixture(scope="module", params=list(KINDS))
def runner(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runner:
    return Runner(*task_sample(request.param, tmp_path_factory.mktemp("data"), tiny_model))


def test_the_loss_is_that_of_the_model(runner: Runner) -> None:
    kind, examples = find_kind(runner.base.task.type), runner.data.splits["train"][:7]
    if not kind.model_computes_loss:
        pytest.skip(
            "transformers has no such loss; the kind's own tests compare it with the library that has"
        )
    batch = kind.collate(examples, runner.data.tokenizer)
    with torch.no_grad():
        output = runner.base.model(**batch.inputs, **batch.targets)
        losses = kind.losses(runner.base.model(**batch.inputs), batch.targets)
    assert len(losses) == len(examples)
    assert float(losses.sum()) / sum(map(kind.target_count, examples)) == pytest.approx(
        float(output.loss), 1e-5
    )


def test_columns_do_not_depend_on_the_batch(runner: Runner) -> None:
    kind, examples = find_kind(runner.base.task.type), runner.data.splits["train"][:6]

    def columns(chosen: list) -> tuple[np.ndarray, ...]:
        batch = kind.collate(chosen, runner.data.tokenizer)
        with torch.no_grad():
            return doubles(*kind.columns(runner.base.model(**batch.inputs), batch.targets))

    together = columns(examples)
    for number, example in enumerate(examples):
        of_both = joined([together, columns([example])])  # a column may be as wide as its batch
        for column in of_both:
            np.testing.assert_allclose(column[number], column[-1], rtol=1e-4, atol=1e-5)


def test_every_score_is_named_and_within_its_bounds(runner: Runner) -> None:
    base = runner.base
    found = evaluate(
        base.model,
        runner.data,
        with_references(base, runner.data, runner.data.splits["validation"]),
        task_type=base.task.type,
        device=base.device,
    )
    kind = find_kind(base.task.type)
    generated = {name for name, metric in kind.metrics.items() if metric.is_generated}
    assert set(found.metrics) == set(metrics_for(base.task.type)) - generated
    for name in set(kind.metrics) - generated:
        low, high = metric_range(metric_of(name))
        assert low <= found.metrics[name] <= high, name
    for name, each in kind.example_scores(found.columns).items():
        assert float(each.mean()) == pytest.approx(found.metrics[name], rel=1e-6), name


def test_a_pack_trains_what_is_trained_alone(runner: Runner) -> None:
    extra = SAMPLES[runner.base.task.type].space
    specs = [
        spec(runner, "lora", 1, **extra),
        spec(runner, "lora", 2, **{**COMMON, "batch_size": 8}, **extra),
    ]
    for result, s in zip(packed(runner, specs), specs, strict=True):
        agree(result, alone(runner, s))
