"""Picks, conditions, and the exported run: trained on its own, it scores what the search saw."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftConfig, PeftModel, get_peft_model
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import autotune
from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.training import optimizer_of
from tests.support.exported_runs import arguments_of, script_of
from tests.support.sweeps import small_sweep
from tests.support.texts import same_splits
from trials.base.parameter_groups import decay_groups
from trials.data.task_data import load_task
from trials.training.optimizers import build_optimizer
from trials.training.run import learning_rate
from trials.training.schedules import lr_schedule


@pytest.fixture(scope="module")
def results(finished_sweep: Path) -> SweepTables:
    return read_tables(finished_sweep)


def column(results: SweepTables, trial: int, name: str) -> float:
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


def test_the_public_functions_write_the_same_run(results, tmp_path):
    export_run(results, "best", [], tmp_path / "internal")
    autotune.export_run(results.folder, tmp_path / "function", pick="best")
    autotune.load_results(results.folder).best().export(tmp_path / "method")
    names = sorted(path.name for path in (tmp_path / "internal").iterdir())
    assert "train.py" in names
    for folder in ("function", "method"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
        for name in ("adapter_config.json", "training_args.json", "run.json"):
            written = (tmp_path / folder / name).read_text()
            assert written == (tmp_path / "internal" / name).read_text()


def test_any_complete_trial_can_be_picked(results):
    assert pick_trial(results, "0") == 0


@pytest.mark.parametrize(
    ("pick", "where", "message"),
    [
        ("bset", [], "Did you mean 'best'"),
        ("99", [], "no complete trial 99"),
        ("best", ["trainable_params<0"], "meets trainable_params<0"),
        ("best", ["trainable_parms<5"], "Did you mean 'trainable_params'"),
        ("best", ["rank is small"], "is not a condition"),
    ],
)
def test_a_wrong_pick_says_what_would_be_right(pick, where, message, results, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        export_run(results, pick, where, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_runs_readme_says_what_holds_on_other_seeds(results, tmp_path):
    trial = pick_trial(results, "best")
    runs = results.confirmations[results.confirmations["trial"] == trial]
    words = (export_run(results, "best", [], tmp_path / "best") / "README.md").read_text()
    mean, test = runs["metric.accuracy"].mean(), runs["test.accuracy"].mean()
    searched = column(results, trial, "accuracy")
    assert (
        f"* accuracy: {mean:.4g} (mean of {len(runs)} seeds that the search did not use), {test:.4g} on the test "
        f"split; {searched:,.6g} in the search\n"
    ) in words
    assert f"* trainable_params: {column(results, trial, 'trainable_params'):,.6g}\n" in words
    other = replace(results, confirmations=results.confirmations.iloc[:0])
    words = (export_run(other, str(trial), [], tmp_path / "other") / "README.md").read_text()
    assert f"* accuracy: {searched:,.6g} (search, one seed)\n" in words


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
    adapter = str(run / "adapter")
    model = AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=2).eval()
    rows = pd.read_csv(results.sweep.task.test, sep="\t")
    texts = AutoTokenizer.from_pretrained(adapter)(
        rows["sentence"].tolist(), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        found = model(**texts).logits.argmax(-1).numpy()
    assert (found == rows["label"]).mean() == pytest.approx(scores["test"]["accuracy"], abs=1e-6)
    check_class_names(
        run, [str(label) for label in load_task(results.sweep.task, results.sweep.model).classes]
    )


def check_class_names(run: Path, names: list[str]) -> None:
    """Check that the configuration beside the adapter and both descriptions have the names of the classes."""
    config = AutoConfig.from_pretrained(run / "adapter")
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: index for index, name in enumerate(names)}
    base = PeftConfig.from_pretrained(str(run / "adapter")).base_model_name_or_path
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    PeftModel.from_pretrained(model, str(run / "adapter"))
    for card in (run / "README.md", run / "adapter" / "README.md"):
        assert all(f"| {index} | {name} |" in card.read_text() for index, name in enumerate(names))


def test_the_run_imports_nothing_of_this_project(results, tmp_path):
    run = export_run(results, "smallest", [], tmp_path / "run")
    for file in (
        "train.py",
        "task/reading/encoding.py",
        "task/kinds/scoring/scores.py",
        "parameter_groups.py",
    ):
        text = (run / file).read_text()
        assert not any(
            f"{verb} {room}" in text
            for verb in ("import", "from")
            for room in ("autotune", "trials", "search_spaces", "surrogates")
        )
    settings = json.loads((run / "training_args.json").read_text())
    config = results.config(pick_trial(results, "smallest"))
    micro, steps = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    assert micro * steps == config["batch_size"]


@pytest.mark.slow
def test_a_causal_run_trains_and_scores_alike(tiny_model, write_jsonl, tmp_path):
    rows = [{"p": "the film was", "c": "good"}, {"p": "the end was", "c": "sad"}] * 40
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={
            "type": "causal-lm",
            **same_splits(write_jsonl("c.jsonl", rows)),
            "prompt": "p",
            "completion": "c",
            "chat_template": "none",
        },
        space={
            "families": ["lora"],
            "parameters": {"epochs": 10, "batch_size": 8, "lora.learning_rate": 1e-2},
        },
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )
    results = run_sweep(sweep, tmp_path / "out")
    scores = train_run(export_run(results, "best", [], tmp_path / "run"))
    assert scores["validation"]["eval_loss"] == pytest.approx(column(results, 0, "eval_loss"), abs=0.4)
    assert scores["test"]["teacher_forced_exact_match"] >= 0.5


# --- optimizers, schedules and sequence lengths: what the exported run does is what the search did

RECIPES: dict[str, dict[str, object]] = {
    "lion": {
        "optimizer": "lion",
        "lion.learning_rate_factor": 0.2,
        "schedule": "constant-cooldown",
        "cooldown": 0.4,
    },
    "adafactor": {"optimizer": "adafactor", "schedule": "constant", "sequence_length": 8},
}


def recipe_sweep(model: Path, data: Path, recipe: dict[str, object]) -> Sweep:
    parameters = {
        "epochs": 5, "batch_size": 16, "warmup": 0.1, "weight_decay": 0.1,
        "lora.targets": "all", "lora.learning_rate": 1e-2, "lora.dora": True, "lora.dropout": 0.0,
        "lora.lr_ratio": 1.0, "lora.freeze_a": False,
    }  # fmt: skip
    return small_sweep(
        model,
        data,
        space={"families": ["lora"], "parameters": {**parameters, **recipe}},
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )


@pytest.fixture(scope="module", params=["lion", pytest.param("adafactor", marks=pytest.mark.slow)])
def exported(request, tiny_model, reviews, tmp_path_factory) -> tuple[SweepTables, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    results = run_sweep(recipe_sweep(tiny_model("bert"), reviews, RECIPES[request.param]), folder / "out")
    return results, export_run(results, "0", [], folder / "run")


@pytest.mark.slow
def test_the_exported_run_of_every_recipe_scores_what_the_trial_scored(exported):
    """As above: other batches and another head, so equal up to the standard error of 120 examples."""
    results, run = exported
    scores = train_run(run)
    searched = column(results, 0, "accuracy")
    assert searched > 0.7
    assert scores["validation"]["accuracy"] == pytest.approx(searched, abs=0.13)


def test_the_exported_run_takes_the_steps_of_the_search(exported, monkeypatch):
    """Equal gradients at every step give equal weights: optimizer, decay, rates and schedule agree."""
    results, run = exported
    script = script_of(run, monkeypatch)
    config = results.config(0)
    settings = json.loads((run / "training_args.json").read_text())
    model = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    theirs = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = [torch.nn.Parameter(parameter.detach().clone()) for parameter in theirs]
    steps = int(config["epochs"]) * 15
    assert steps == 5 * math.ceil(240 / 16)
    trainer = script.make_trainer(model, arguments_of(script, settings), {"train": [], "validation": []})
    trainer.create_optimizer_and_scheduler(steps)
    groups = decay_groups(ours, float(config["weight_decay"]))
    optimizer = build_optimizer(optimizer_of(config), groups, learning_rate(config))
    schedule = LambdaLR(optimizer, lr_schedule(config, steps))
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for stepped in (optimizer, schedule, trainer.optimizer, trainer.lr_scheduler):
            stepped.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)


def test_the_exported_run_reads_the_examples_of_the_search(exported, monkeypatch):
    results, run = exported
    script = script_of(run, monkeypatch)
    data = load_task(results.sweep.task, results.sweep.model)
    length = results.config(0).get("sequence_length")
    for name, examples in data.at_length(results.sweep.task, length).splits.items():
        assert script.load_split(name) == examples
        assert (max(len(example["input_ids"]) for example in examples) == 8) == (length == 8)


def test_the_run_says_what_it_needs(exported):
    results, run = exported
    needs = "pip install lion-pytorch" in (run / "README.md").read_text()
    assert needs == (results.config(0).get("optimizer") == "lion")


def test_a_causal_run_is_cut_in_training_alone(tiny_model, write_jsonl, tmp_path, monkeypatch):
    rows = [{"p": "the film was", "c": "good and bright and warm"}]
    rows += [{"p": "the end of a film with people in it was", "c": "sad"}]
    rows *= 40
    columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
    columns |= same_splits(write_jsonl("c.jsonl", rows))
    parameters = {"epochs": 3, "batch_size": 8, "warmup": 0.5, "sequence_length": 8}
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={"type": "causal-lm", **columns},
        space={"families": ["lora"], "parameters": parameters},
        objectives=["eval_loss", "train_flops"],
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )
    results = run_sweep(sweep, tmp_path / "out")
    run = export_run(results, "0", [], tmp_path / "run")
    script = script_of(run, monkeypatch)
    data = load_task(sweep.task, sweep.model)
    cut = data.at_length(sweep.task, 8)
    assert len(cut.splits["train"]) < len(data.splits["train"])
    for name, examples in cut.splits.items():
        assert script.load_split(name) == examples
    settings = json.loads((run / "training_args.json").read_text())
    assert settings["warmup_steps"] == math.ceil(0.5 * 3 * math.ceil(len(cut.splits["train"]) / 8))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("weights", [pytest.param("bf16", marks=pytest.mark.slow), "nf4"])
def test_a_run_keeps_the_base_as_the_search_did(weights, tiny_model, reviews, tmp_path):
    """As above, equal up to the standard error of 120 examples."""
    if weights == "nf4":
        pytest.importorskip("bitsandbytes", reason="needs the extra `quantized`")
    parameters = {"epochs": 5, "batch_size": 16, "lora.targets": "all", "lora.learning_rate": 1e-2}
    sweep = small_sweep(
        tiny_model("bert"),
        reviews,
        space={"families": ["lora"], "parameters": parameters},
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )
    sweep = parse_sweep(
        {**sweep.model_dump(), "model": {"name": str(tiny_model("bert")), "weights": weights}}
    )
    results = run_sweep(sweep, tmp_path / "out")
    run = export_run(results, "0", [], tmp_path / "run")
    assert json.loads((run / "run.json").read_text())["weights"] == weights
    assert ("bitsandbytes" in (run / "README.md").read_text()) == (weights == "nf4")
    scores = train_run(run) if weights == "bf16" else train_with_inference_kernel(run)
    searched = column(results, 0, "accuracy")
    assert searched > 0.7
    assert scores["validation"]["accuracy"] == pytest.approx(searched, abs=0.13)


def train_with_inference_kernel(run: Path) -> dict[str, dict[str, float]]:
    """Run train.py where bitsandbytes takes the processor for one with AVX512-BF16; the scores by split.

    bitsandbytes then rewrites 4-bit weights in the first evaluation unless it is told not to.
    """
    code = (
        "import runpy, sys, bitsandbytes.nn.modules as modules\n"
        "modules.has_avx512bf16 = lambda: True\n"
        "sys.path.insert(0, '.')\n"
        "runpy.run_path('train.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    scores: dict[str, dict[str, float]] = json.loads((run / "scores.json").read_text())
    return scores


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InvalidInputError, match=r"has no train\.py"):
        train_run(tmp_path)


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        ({}, "auto"),
        ({"precision": "int8"}, "fp32"),
        ({"precision": "bf16"}, "bf16"),
        ({"weights": "bf16"}, "bf16"),
    ],
)
def test_a_run_computes_in_what_the_base_is_kept_in_and_never_in_int8(model, precision, results, tmp_path):
    kept = results.sweep.model.model_validate({"name": results.sweep.model.name, **model})
    searched = replace(results, sweep=results.sweep.model_copy(update={"model": kept}))
    run = export_run(searched, "best", [], tmp_path / "run")
    assert json.loads((run / "run.json").read_text())["precision"] == precision
