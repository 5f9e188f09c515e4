"""Ladders of bases: the rungs below the top are smaller models, on which every configuration is trained in full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from transformers import AutoModel

from autotune.engine.sweep_run import run_sweep
from autotune.ledger.folder_reader import FolderReader
from autotune.prepare.prepared_sweep import prepare
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from search_spaces.transfer import transfer_configuration
from tests.support.ladders import with_config
from tests.support.sweeps import run_and_kill, small_sweep
from trials.base.model import choose_dtype
from trials.execution.runner import Runner

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture(scope="module")
def small(tiny_model: Callable[[str], Path]) -> Path:
    """A base with half the layers of the sweep's own."""
    return tiny_model("bert")


@pytest.fixture(scope="module")
def smaller(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of one layer."""
    return with_config(small, tmp_path_factory.mktemp("smaller") / "one", num_hidden_layers=1)


@pytest.fixture(scope="module")
def on_bases(deep_model: Path, small: Path, reviews: Path) -> Callable[..., Sweep]:
    def make(**changes: Any) -> Sweep:
        ladder = {"of": "base", "bases": [str(small)], **changes.pop("ladder", {})}
        given: dict[str, Any] = {"budget": {"trials": 6}, "confirm": {"seeds": 0}, **changes}
        return small_sweep(deep_model, reviews, ladder=ladder, **given)

    return make


@pytest.fixture(scope="module")
def whole(on_bases, tmp_path_factory) -> SweepTables:
    """A sweep, uninterrupted."""
    return run_sweep(on_bases(), tmp_path_factory.mktemp("whole") / "out")


def test_complete_trials_equal_those_without_a_ladder(whole, on_bases, tmp_path):
    plain = small_sweep(
        Path(whole.sweep.model.name),
        Path(whole.sweep.task.train).parent,
        budget={"trials": 3},
        confirm={"seeds": 0},
    )
    alone = run_sweep(plain, tmp_path / "out").trials
    pairs = [(whole.trials.iloc[i], alone.iloc[i]) for i in range(3)]
    pairs = [(here, there) for here, there in pairs if here["status"] == "complete"]
    assert pairs
    for here, there in pairs:
        assert (here["config"], here["seed"]) == (there["config"], there["seed"])
        assert here["metric.eval_loss"] == pytest.approx(there["metric.eval_loss"], rel=1e-6)
        assert here["cost.trainable_params"] == there["cost.trainable_params"]


def test_a_rung_is_the_trial_of_a_sweep_on_that_base(whole, small, reviews, tmp_path):
    plain = small_sweep(small, reviews, budget={"trials": 3}, confirm={"seeds": 0})
    alone = run_sweep(plain, tmp_path / "out").trials
    trials = FolderReader(whole.folder, whole.sweep).trials()
    same = 0
    for trial, (_, there) in zip(trials, alone.iterrows(), strict=False):
        (record,) = trial.user_attrs["rungs"]
        if there["config"] == transfer_configuration(
            dict(trial.params), whole.sweep.space, *shapes(whole, small)
        ):
            assert record["result"]["metrics"]["eval_loss"] == pytest.approx(
                there["metric.eval_loss"], rel=1e-6
            )
            assert record["result"]["status"] == "paused"
            same += 1
    assert same >= 2


def shapes(results: SweepTables, small: Path) -> tuple[Any, Any]:
    prepared = prepare(results.sweep)
    return prepared.shape, prepared.bases.bases[str(small)].shape


@pytest.mark.slow
def test_a_killed_process_loses_nothing(whole, on_bases, tmp_path):
    folder = tmp_path / "out"
    before = run_and_kill(on_bases(), folder, lambda trials: trials["share"].notna())
    results = run_sweep(on_bases(), folder)
    trials = results.trials[results.trials["status"] != "lost"]
    assert before <= set(trials["trial"])
    assert len(trials) == 6
    assert results.ladder is not None
    assert results.ladder.settled


ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 2**-8}
"""How far a loss may be from that of another executor, relative to it. A pack cuts the batches into other chunks, and
the gradient of each chunk is rounded to the precision before they are summed: one step of bf16 is 2**-8."""


@pytest.mark.parametrize(
    ("executor", "precision"),
    [
        ("packed", "auto"),
        ("packed", "bf16"),
        pytest.param({"name": "processes", "workers": 1}, "auto", marks=pytest.mark.slow),
    ],
)
def test_trials_on_base_rungs_with_other_executors(executor, precision, whole, on_bases, tmp_path):
    """`auto` is bf16 on a CPU with AMX, and fp32 on others."""
    two = {"budget": {"trials": 2}, "precision": precision}
    results = run_sweep(on_bases(executor=executor, ladder={"random_share": 1.0}, **two), tmp_path / "out")
    assert results.ladder is not None
    assert results.ladder.settled
    assert results.ladder.reached == (2, 2)
    wanted = whole if precision == "auto" else run_sweep(on_bases(**two), tmp_path / "wanted")
    rel = ROUNDING[choose_dtype(precision, torch.device("cpu"))]
    here, there = (FolderReader(r.folder, r.sweep).trials() for r in (results, wanted))
    for mine, yours in zip(here, there[:2], strict=True):  # defaults of families, with the same seeds
        pairs = [t.user_attrs["rungs"][0]["result"]["metrics"]["eval_loss"] for t in (mine, yours)]
        assert pairs[0] == pytest.approx(pairs[1], rel=rel)
        if yours.state == TrialState.COMPLETE:
            assert mine.values == pytest.approx(yours.values, rel=rel)


def test_each_base_reads_the_texts_with_its_own_tokenizer(on_bases, small, tmp_path):
    from tokenizers import processors
    from transformers import AutoTokenizer

    folder = with_config(small, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] [CLS] $A [SEP]",
        pair="[CLS] [CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save_pretrained(folder)
    sweep = on_bases(ladder={"bases": [str(folder)]}, budget={"trials": 1})
    prepared = prepare(sweep)
    there = prepared.bases.bases[str(folder)]
    assert (there.data.lengths("train") == prepared.data.lengths("train") + 1).all()
    assert there.costs.workload.tokens == pytest.approx(prepared.costs.workload.tokens + 1)
    assert run_sweep(sweep, tmp_path / "out").trials["status"].tolist() == ["complete"]


def test_a_base_that_cannot_be_loaded_is_reported_before_the_first_trial(on_bases, small, tmp_path):
    bare, cut, lacking = (shutil.copytree(small, tmp_path / name) for name in ("bare", "cut", "lacking"))
    (bare / "model.safetensors").unlink()
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    from safetensors.torch import load_file, save_file

    kept = load_file(lacking / "model.safetensors")
    kept.pop(next(name for name in kept if "attention" in name))
    save_file(kept, lacking / "model.safetensors", {"format": "pt"})
    mute = with_config(small, tmp_path / "mute")
    for path in mute.glob("*token*"):
        path.unlink()
    with pytest.raises(InvalidInputError) as caught:
        run_sweep(on_bases(ladder={"bases": [str(f) for f in (bare, cut, lacking, mute)]}), tmp_path / "out")
    said = [str(problem) for problem in caught.value.problems]
    assert [problem.where for problem in caught.value.problems] == [f"ladder.bases[{i}]" for i in range(4)]
    assert "has no weights in safetensors" in said[0]
    assert "cannot be loaded" in said[1]
    assert "lacks the weights" in said[2]
    assert "tokenizer" in said[3] or "vocabulary" in said[3]
    assert not (tmp_path / "out").exists()


def test_shares_of_the_layers_are_bases(on_bases, deep_model, tmp_path):
    sweep = on_bases(ladder={"bases": ["25%", "50%"], "random_share": 1.0}, budget={"trials": 2})
    bases = prepare(sweep).bases
    assert [base.shape.depth for base in bases.bases.values()] == [1, 2]
    assert bases.notes[0].startswith("ladder of base models: 25% (1 of 4 layers, ")
    results = run_sweep(sweep, tmp_path / "out")
    assert results.ladder is not None
    assert results.ladder.reached == (2, 2, 2)
    cut = AutoModel.from_pretrained(deep_model, num_hidden_layers=2)
    folder = shutil.copytree(deep_model, tmp_path / "half")
    cut.save_pretrained(folder)
    same = run_sweep(on_bases(ladder={"bases": [str(folder)]}, budget={"trials": 2}), tmp_path / "saved")
    mine, yours = (FolderReader(r.folder, r.sweep).trials() for r in (results, same))
    for here, there in zip(mine, yours, strict=True):
        loss = here.user_attrs["rungs"][1]["result"]["metrics"]["eval_loss"]
        assert loss == pytest.approx(there.user_attrs["rungs"][0]["result"]["metrics"]["eval_loss"], rel=1e-6)


def test_shares_that_keep_the_same_layers_are_refused(on_bases):
    with pytest.raises(InvalidInputError, match=r"'20%' keeps 1 layer, as '30%' after it has"):
        prepare(on_bases(ladder={"bases": ["20%", "30%"]}))


def test_truncated_bases_share_the_memory_of_the_whole_one(on_bases):
    sweep = on_bases()
    runner = Runner(sweep.model, sweep.task)
    whole, half = runner.base.model, runner.base_and_data("50%")[0].model
    assert half.config.num_hidden_layers == 2
    theirs = {path: weight.data_ptr() for path, weight in whole.named_parameters()}
    assert {path: weight.data_ptr() for path, weight in half.named_parameters()} == {
        path: theirs[path] for path, _ in half.named_parameters()
    }
