"""Picks, conditions, and the exported run: trained on its own, it scores what the search saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from autotune.engine import run_sweep
from autotune.export import export_run, train_run
from autotune.picks import pick_trial
from autotune.results import SweepResults
from search_spaces.errors import InvalidInputError
from tests.autotune.sweeps import small_sweep


@pytest.fixture(scope="module")
def results(tiny_model: Callable[[str], Path], reviews: Path, tmp_path_factory) -> SweepResults:
    space = {
        "families": ["lora", "norm", "head"],
        "parameters": {
            "epochs": 5,
            "batch_size": 16,
            "lora.rank": {"low": 2, "high": 8},
            "lora.learning_rate": {"low": 5e-3, "high": 2e-2},
            "lora.targets": "all",
            "lora.dora": False,
        },
    }
    fidelity = {"evaluations": 1}
    sweep = small_sweep(tiny_model("bert"), reviews, space=space, budget={"trials": 5}, fidelity=fidelity)
    return run_sweep(sweep, tmp_path_factory.mktemp("sweep") / "out")


def column(results: SweepResults, trial: int, name: str) -> float:
    return float(results.trials.set_index("trial")[name][trial])


def test_smallest_is_the_fewest_parameters_on_the_front(results):
    trial = pick_trial(results, "smallest")
    assert column(results, trial, "trainable_params") == results.front["trainable_params"].min()


def test_best_is_the_best_confirmed_mean(results):
    means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
    assert pick_trial(results, "best") in set(means.index[means == means.max()])


def test_a_condition_narrows_the_front_before_the_pick(results):
    limit = results.front["trainable_params"].median()
    trial = pick_trial(results, "best", [f"trainable_params<={limit}"])
    assert column(results, trial, "trainable_params") <= limit
    percent = pick_trial(results, "best", ["trainable_params<=100%", "accuracy>0"])
    assert percent == pick_trial(results, "best")


def test_any_complete_trial_can_be_picked(results):
    assert pick_trial(results, "0") == 0


@pytest.mark.parametrize(
    ("pick", "where", "message"),
    [
        ("bset", [], "Did you mean 'best'"),
        ("99", [], "no complete trial 99"),
        ("best", ["trainable_params<0"], "meets trainable_params<0"),
        ("best", ["trainable_parms<5"], "Did you mean 'trainable_params'"),
        ("best", ["rank is small"], "is no condition"),
    ],
)
def test_a_wrong_pick_says_what_would_be_right(pick, where, message, results, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        export_run(results, pick, where, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_not_overwritten(results, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InvalidInputError, match="not empty"):
        export_run(results, "best", [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_exported_run_scores_what_the_trial_scored_and_its_adapter_loads(results, tmp_path):
    """The two loops draw other batches; with 120 examples a score has a standard error of about 0.04."""
    trial = pick_trial(results, "best")
    run = export_run(results, "best", [], tmp_path / "run")
    scores = train_run(run)
    searched = column(results, trial, "accuracy")
    assert scores["validation"]["accuracy"] == pytest.approx(searched, abs=0.13)
    code = f"""
import numpy as np, pandas as pd, torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer
model = AutoPeftModelForSequenceClassification.from_pretrained({str(run / "adapter")!r}, num_labels=2).eval()
tokenizer = AutoTokenizer.from_pretrained({str(run / "adapter")!r})
rows = pd.read_csv({results.sweep.task.test!r}, sep="\\t")
with torch.no_grad():
    logits = model(**tokenizer(rows["sentence"].tolist(), padding=True, return_tensors="pt")).logits
print(float((logits.argmax(-1).numpy() == rows["label"]).mean()))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(loaded.stdout.split()[-1]) == pytest.approx(scores["test"]["accuracy"], abs=1e-6)


def test_the_run_imports_nothing_of_this_project(results, tmp_path):
    run = export_run(results, "smallest", [], tmp_path / "run")
    for file in ("train.py", "encoding.py"):
        text = (run / file).read_text()
        assert not any(
            f"{verb} {room}" in text
            for verb in ("import", "from")
            for room in ("autotune", "trials", "search_spaces", "surrogates")
        )
    settings = json.loads((run / "training_args.json").read_text())
    config = results.config(pick_trial(results, "smallest"))
    assert settings["per_device_train_batch_size"] == config["batch_size"]


def test_a_causal_run_trains_and_scores_alike(tiny_model, write_jsonl, tmp_path):
    rows = [{"p": "the film was", "c": "good"}, {"p": "the end was", "c": "sad"}] * 40
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={
            "type": "causal-lm",
            "train": str(write_jsonl("c.jsonl", rows)),
            "prompt": "p",
            "completion": "c",
        },
        space={
            "families": ["lora"],
            "parameters": {"epochs": 3, "batch_size": 8, "lora.learning_rate": 1e-2},
        },
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )
    results = run_sweep(sweep, tmp_path / "out")
    scores = train_run(export_run(results, "best", [], tmp_path / "run"))
    assert scores["validation"]["eval_loss"] == pytest.approx(column(results, 0, "eval_loss"), abs=0.4)
    assert scores["test"]["exact_match"] >= 0.5


def test_a_composite_run_brings_its_tuner_and_its_adapter_loads(tiny_model, reviews, tmp_path):
    space = {
        "families": ["autopeft"],
        "parameters": {"epochs": 1, "batch_size": 16, "autopeft.learning_rate": 5e-3, "autopeft.prefix": 3},
    }
    sweep = small_sweep(tiny_model("bert"), reviews, space=space, budget={"trials": 1}, confirm={"seeds": 0})
    results = run_sweep(sweep, tmp_path / "out")
    run = export_run(results, "best", [], tmp_path / "run")
    assert "import tuners" in (run / "README.md").read_text()
    scores = train_run(run)
    code = f"""
import sys, pandas as pd, torch
sys.path.insert(0, {str(run)!r})
import tuners
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer
model = AutoPeftModelForSequenceClassification.from_pretrained({str(run / "adapter")!r}, num_labels=2).eval()
tokenizer = AutoTokenizer.from_pretrained({str(run / "adapter")!r})
rows = pd.read_csv({sweep.task.test!r}, sep="\\t")
with torch.no_grad():
    logits = model(**tokenizer(rows["sentence"].tolist(), padding=True, return_tensors="pt")).logits
print(float((logits.argmax(-1).numpy() == rows["label"]).mean()))
assert any("composite_prefix" in name for name, _ in model.named_parameters())
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert float(loaded.stdout.split()[-1]) == pytest.approx(scores["test"]["accuracy"], abs=1e-6)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InvalidInputError, match=r"has no train\.py"):
        train_run(tmp_path)


def test_the_scripts_own_scores_are_those_of_scikit_learn():
    """The exported script may not need scikit-learn; its formulas are held against it here."""
    source = Path(__file__).parents[2] / "autotune" / "templates" / "train.py"
    text = source.read_text()
    names: dict[str, object] = {"np": np}
    start, end = text.index("def correlation"), text.index("def main")
    exec(compile(text[start:end], str(source), "exec"), names)
    rng = np.random.default_rng(0)
    for classes in (2, 4):
        truth, guess = rng.integers(0, classes, 200), rng.integers(0, classes, 200)
        table = reference.confusion_matrix(truth, guess, labels=range(classes)).astype(float)
        average = "binary" if classes == 2 else "macro"
        assert names["f1"](table) == pytest.approx(reference.f1_score(truth, guess, average=average))
        assert names["matthews"](table) == pytest.approx(reference.matthews_corrcoef(truth, guess))
    from scipy import stats

    a, b = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    assert names["correlation"](a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    ranks = [names["mean_ranks"](np.unique(x, return_inverse=True)[1]) for x in (a, b)]
    assert names["correlation"](*ranks) == pytest.approx(stats.spearmanr(a, b).statistic)
