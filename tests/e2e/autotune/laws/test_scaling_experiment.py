"""Small language models from scratch, and the law that the smaller ones give."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from autotune.cli.app import app
from autotune.laws import scaling_experiment as experiment
from autotune.laws.scaling_experiment import check_largest, plan, run_scale_sweep
from search_spaces.errors import InvalidInputError
from tests.support.processes import forked_processes
from trials.tasks.pocket import language_models
from trials.tasks.pocket.language_models import (
    BATCH,
    CONTEXT,
    ScaleRun,
    Size,
    Tokens,
    held_out_loss,
    run_size,
)

SMALL, LARGER = Size(16, 1), Size(32, 1)
LEAST = 2 * language_models.WARMUP_STEPS * BATCH * CONTEXT
BUDGETS = (LEAST, LEAST + 20 * BATCH * CONTEXT)


@pytest.fixture(scope="module")
def text() -> Tokens:
    """Each token is one of four that may follow the one before: ln 4 nats are left to know."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    following = rng.integers(0, 64, (64, 4))
    ids = np.zeros(BUDGETS[-1] + 20 * CONTEXT, dtype=np.int64)
    choices = rng.integers(0, 4, len(ids))
    for i in range(1, len(ids)):
        ids[i] = following[ids[i - 1], choices[i]]
    return Tokens(ids[: BUDGETS[-1]], ids[BUDGETS[-1] :].reshape(-1, CONTEXT))


@pytest.fixture(scope="module")
def both(text: Tokens) -> list[ScaleRun]:
    return list(run_size(SMALL, BUDGETS, text))


@pytest.mark.slow
def test_each_budget_equals_a_separate_run(text: Tokens, both: list[ScaleRun]) -> None:
    """A copy that cools down leaves the longer run as it would have been; the tokens and the seed decide all."""
    (alone,) = run_size(SMALL, BUDGETS[1:], text)
    assert [run.tokens for run in both] == list(BUDGETS)
    assert (both[1].loss, both[1].params) == (alone.loss, alone.params)
    assert np.log(4) < both[1].loss < both[0].loss < np.log(64)
    assert both[0].flops == 6.0 * both[0].params * both[0].tokens


def test_parameters_and_loss_by_hand(text: Tokens) -> None:
    """A layer: four matrices of attention, three of the feed-forward part, two norms; one norm above, and the
    embeddings, which are the output matrix too."""
    model = language_models.build(LARGER, 0)
    width, hidden = 32, 88
    expected = 1024 * width + 4 * width * width + 3 * width * hidden + 3 * width
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert held_out_loss(model, text) == pytest.approx(np.log(1024), rel=1e-6)


def test_text_that_is_too_short_and_budgets_that_are_too_small(text: Tokens) -> None:
    with pytest.raises(ValueError, match="tokens are requested, and the available text has"):
        next(run_size(SMALL, (10**9,), text))
    for budgets in ((LEAST // 2,), BUDGETS[::-1]):
        with pytest.raises(ValueError, match="they must increase and start at"):
            next(run_size(SMALL, budgets, text))


@pytest.mark.parametrize(
    ("sizes", "workers"), [((SMALL,), 1), pytest.param((SMALL, LARGER), 2, marks=pytest.mark.slow)]
)
def test_finished_runs_are_kept_and_the_rest_is_trained(
    sizes: tuple[Size, ...], workers: int, text: Tokens, both: list[ScaleRun], tmp_path: Path
) -> None:
    """As if the first run had been stopped after one point."""
    out = tmp_path / "points.csv"
    pd.DataFrame([asdict(both[0])]).to_csv(out, index=False)
    seen: list[int] = []
    wanted = {size: BUDGETS if size == SMALL else BUDGETS[1:] for size in sizes}
    given = {"workers": workers, "tokens": text}
    with forked_processes():
        frame = run_scale_sweep(out, wanted, on_point=lambda run: seen.append(run.tokens), **given)
    assert seen[0] == BUDGETS[0]
    expected = [BUDGETS[0]] + [BUDGETS[1]] * len(sizes)
    assert sorted(seen) == frame["tokens"].tolist() == expected
    assert frame["loss"][:2].tolist() == [run.loss for run in both]
    pd.testing.assert_frame_equal(run_scale_sweep(out, wanted), frame)  # nothing is left to train or read
    assert len(pd.read_csv(out)) == len(expected)


def test_a_plan_gives_larger_models_the_larger_budgets() -> None:
    assert plan((SMALL, LARGER), BUDGETS) == {SMALL: BUDGETS, LARGER: BUDGETS[1:]}


def test_too_little_text_and_files_with_other_columns_are_refused(text: Tokens, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="tokens are needed"):
        run_scale_sweep(tmp_path / "points.csv", {SMALL: (10**9,)}, workers=1, tokens=text)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInputError, match="not those of a scaling experiment"):
        run_scale_sweep(tmp_path / "other.csv", {SMALL: BUDGETS}, tokens=text)


def points(largest: float) -> pd.DataFrame:
    """Runs on a known law, and the largest model with a loss that is given."""
    sizes, budgets = (6e4, 1.3e5, 4e5, 1.1e6), (131072, 262144, 524288, 1048576)
    rows = [(size, tokens, 2.0 + 60 / size**0.4 + 900 / tokens**0.5) for size in sizes for tokens in budgets]
    rows.append((5e6, budgets[-1], largest))
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    return frame.assign(flops=1e12, learning_rate=1e-3, width=32, layers=2, seconds=1.0)


def test_the_largest_model_is_predicted_from_the_others() -> None:
    truth = 2.0 + 60 / 5e6**0.4 + 900 / 1048576**0.5
    found = check_largest(points(truth))
    assert found.error == pytest.approx(0.0, abs=1e-3)
    assert found.low <= found.predicted <= found.high
    wrong = check_largest(points(1.5 * truth))
    assert (wrong.predicted, wrong.low, wrong.high) == (found.predicted, found.low, found.high)
    assert not wrong.is_within
    assert wrong.error == pytest.approx(1 / 1.5 - 1, abs=1e-3)


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The training stands in for itself: points on a known law come back."""
    truth = 2.0 + 60 / 5e6**0.4 + 900 / 1048576**0.5
    monkeypatch.setattr(experiment, "run_scale_sweep", lambda out, wanted, **_: points(truth))
    ran = CliRunner().invoke(app, ["law", "sweep", "--out", str(tmp_path / "p.csv")])
    assert ran.exit_code == 0, ran.output
    assert "The largest model, 5.00 M parameters on 1,049 k tokens: predicted loss" in ran.stdout
    ran = CliRunner().invoke(app, ["law", "sweep", "--quick", "--json"])
    said = json.loads(ran.stdout)
    assert said["law"]["law"] == "chinchilla"
    assert set(said["predicted"]) == {"value", "low", "high", "level"}
    assert said["largest"]["loss"] == truth


@pytest.mark.slow
def test_the_embedded_text_is_enough() -> None:
    tokens = language_models.read_tokens()
    assert len(tokens.train) >= language_models.BUDGETS[-1]
    assert tokens.train.max() < language_models.VOCABULARY
    assert len(tokens.held_out) > 200
