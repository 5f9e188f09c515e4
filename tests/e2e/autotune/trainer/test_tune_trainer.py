"""`autotune.tune_trainer` with a trainer of transformers: rungs, checkpoints, metrics, failures and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from peft import get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

import autotune
from autotune import InvalidInputError, Ladder, Objective, TrainerTrial
from autotune.blackbox.result import OptimizeResult

CONFIG = BertConfig(
    vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
)
LORA = {
    "families": ["lora"],
    "parameters": {
        "batch_size": 8,
        "epochs": 2,
        "schedule": "linear",
        "lora.lr_ratio": {"low": 2.0, "high": 4.0},
    },
}
LADDER = Ladder(1 / 3, 1, random_share=0.0)
ACCURACY = Objective("right", "maximize")


def examples(count: int, seed: int) -> list[dict[str, Any]]:
    tokens = np.random.default_rng(seed).integers(1, 30, size=(count, 6))
    return [{"input_ids": torch.tensor(t), "labels": torch.tensor(int(t[0] > 15))} for t in tokens]


TRAIN, VALIDATION = examples(24, 0), examples(16, 1)


def compute_metrics(prediction: Any) -> dict[str, float]:
    logits, labels = prediction
    return {"right": float((logits.argmax(-1) == labels).mean())}


def arguments(**options: Any) -> TrainingArguments:
    given = {
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_strategy": "no",
    }
    return TrainingArguments(**given | options)


class TrainerInit:
    """Builds the trainer of a trial, and notes the trials."""

    def __init__(self, callbacks: Any = (), **options: Any) -> None:
        self.options, self.callbacks = options, callbacks
        self.trials: list[TrainerTrial] = []
        self.trainers: list[Trainer] = []

    def __call__(self, trial: TrainerTrial) -> Trainer:
        self.trials.append(trial)
        model = BertForSequenceClassification(CONFIG)
        if "family" in trial.config:
            model = get_peft_model(model, trial.peft_config(model))
        trainer = Trainer(
            model,
            trial.arguments(arguments(**self.options)),
            train_dataset=TRAIN,
            eval_dataset=VALIDATION,
            compute_metrics=compute_metrics,
            callbacks=[make() for make in self.callbacks],
        )
        self.trainers.append(trainer)
        return trainer


def tune(folder: Path, init: Any = None, space: Any = LORA, **options: Any) -> OptimizeResult:
    given = {
        "objectives": ["eval_loss", "trainable_params"],
        "budget": 3.0,
        "model": CONFIG,
        "sampler": "random",
    }
    return autotune.tune_trainer(init or TrainerInit(), space, folder=folder, **given | options)


@pytest.fixture(scope="module")
def on_ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[OptimizeResult, TrainerInit, Path]:
    """A search on two rungs, with curves."""
    folder, init = tmp_path_factory.mktemp("tuned"), TrainerInit(eval_strategy="steps", eval_steps=1)
    objectives = ["eval_loss", ACCURACY, "trainable_params"]
    return tune(folder, init, ladder=LADDER, objectives=objectives), init, folder


def test_a_promoted_trial_resumes_and_scores_as_if_it_had_not_paused(on_ladder):
    result, init, folder = on_ladder
    complete = [trial for trial in result.trials if trial.status == "complete"]
    assert complete
    assert result.used <= 3.0
    assert len(init.trials) == sum(len(trial.rungs) for trial in result.trials)
    trial = complete[0]
    again = next(t for t in init.trials if t.number == trial.number)
    alone = TrainerTrial(again.config, folder / "alone", again.seed).trainer(TrainerInit(**init.options))
    alone.train()
    assert alone.evaluate()["eval_loss"] == pytest.approx(trial.values[0], rel=1e-6)


def test_the_curve_of_a_trial_is_in_optuna_and_in_the_tables(on_ladder):
    result, _, _ = on_ladder
    trial = next(t for t in result.trials if t.status == "complete")
    shown = result.study.trials[trial.number].intermediate_values
    assert list(shown) == [167, 333, 500, 667, 833, 1000]
    assert shown[1000] == trial.values[0]
    assert result.plot_curves().data
    curves = result._tables.curves
    assert curves.loc[curves["trial"] == trial.number, "samples"].tolist() == pytest.approx(
        [1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0]
    )


def test_metrics_of_the_trainer_are_objectives_by_their_names(on_ladder):
    result, _, _ = on_ladder
    table = result.to_pandas()
    done = table[table["status"] == "complete"]
    assert done["right"].between(0, 1).all()
    assert (done["right"] == done["metric.right"]).all()
    assert (done["cost.trainable_params"] == done["trainable_params"]).all()
    assert (done["metric.train_seconds"] > 0).all()


def test_only_trials_that_may_be_promoted_keep_a_checkpoint(on_ladder):
    result, _, folder = on_ladder
    kept = {path.parent.name for path in folder.glob("trial-*/checkpoint-*")}
    assert kept == {f"trial-{t.number}" for t in result.trials if t.status == "waiting"}


def test_a_larger_budget_resumes_the_search_from_its_checkpoints(on_ladder, tmp_path):
    result, _, folder = on_ladder
    init = TrainerInit(eval_strategy="steps", eval_steps=1)
    objectives = ["eval_loss", ACCURACY, "trainable_params"]
    more = tune(folder, init, ladder=LADDER, objectives=objectives, budget=result.used + 1.0)
    assert result.used < more.used <= result.used + 1.0
    before = {t.number: t.rungs for t in result.trials}
    after = {t.number: t.rungs for t in more.trials}
    assert all(after[number].items() >= rungs.items() for number, rungs in before.items())
    assert len(init.trials) == sum(map(len, after.values())) - sum(map(len, before.values()))


def test_the_arguments_and_the_optimizer_are_those_of_the_configuration(tmp_path):
    config = {
        "family": "lora", "lora.rank": 2, "lora.learning_rate": 1e-3, "lora.lr_ratio": 4.0, "batch_size": 8,
        "epochs": 3, "weight_decay": 0.05, "warmup": 0.1, "schedule": "cosine",
    }  # fmt: skip
    init = TrainerInit(gradient_accumulation_steps=2)
    trainer = TrainerTrial(config, tmp_path, seed=5).trainer(init)
    args = trainer.args
    assert (args.learning_rate, args.num_train_epochs, args.weight_decay) == (1e-3, 3, 0.05)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 2)
    assert (args.warmup_steps, args.lr_scheduler_type, args.seed) == (0.1, "cosine", 5)
    assert args.output_dir == str(tmp_path)
    rates = {group["lr"] for group in trainer.optimizer.param_groups if group["params"]}
    assert rates == {1e-3, 4e-3}
    named = {id(p): name for name, p in trainer.model.named_parameters()}
    fast = [named[id(p)] for g in trainer.optimizer.param_groups if g["lr"] == 4e-3 for p in g["params"]]
    assert fast
    assert all("lora_B" in name for name in fast)


def test_a_number_of_examples_and_fractional_epochs_reach_the_trainer(tmp_path):
    few, more = (
        TrainerTrial({"train_samples": count, "epochs": 0.5}, tmp_path).trainer(TrainerInit())
        for count in (4, 9)
    )
    assert [id(example) for example in few.train_dataset] == [id(example) for example in more.train_dataset][
        :4
    ]
    assert few.args.num_train_epochs == 0.5
    shares = {**LORA, "parameters": {**LORA["parameters"], "train_samples": {"low": "25%"}}}
    with pytest.raises(InvalidInputError, match="shares of training data whose size is unknown"):
        tune(tmp_path / "shares", space=shares)
    search = tune(tmp_path / "all", space=shares, lengths=[6] * len(TRAIN), budget=1.0)
    assert 6 <= search.trials[0].config["train_samples"] <= 24


def test_any_field_of_the_arguments_can_be_searched_without_an_adapter(tmp_path):
    space = {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "max_grad_norm": FloatDistribution(0.1, 1),
    }
    init = TrainerInit(num_train_epochs=1)
    result = tune(tmp_path, init, space, objectives=["eval_loss"], budget=2, model=None)
    for trial, trainer in zip(result.trials, init.trainers, strict=True):
        args = trainer.args
        assert (args.learning_rate, args.max_grad_norm) == tuple(trial.config.values())
        assert trainer.optimizer.param_groups[0]["weight_decay"] == args.weight_decay


def test_a_run_that_cannot_be_trained_fails_its_trial_only(tmp_path):
    class Sometimes(TrainerInit):
        def __call__(self, trial: TrainerTrial) -> Trainer:
            if trial.number == 1:
                raise torch.OutOfMemoryError("no memory left")
            if trial.number == 2:
                trainer = super().__call__(trial)
                next(p for p in trainer.model.parameters() if p.requires_grad).data.fill_(float("nan"))
                return trainer
            return super().__call__(trial)

    result = tune(tmp_path, Sometimes(), budget=3)
    assert [trial.status for trial in result.trials] == ["complete", "failed", "failed"]
    assert "OutOfMemoryError: no memory left" in str(result.trials[1].error)
    assert "eval_loss became nan at step 6" in str(result.trials[2].error)


def test_a_limit_on_the_seconds_ends_a_run(tmp_path):
    limit = Objective("train_seconds", max=1e-9)
    with pytest.raises(autotune.SearchFailedError, match=r"train_seconds: 0 is above the limit, 1e-09"):
        tune(tmp_path, objectives=["eval_loss", limit], budget=6)


def test_the_best_model_at_the_end_is_the_one_that_is_scored(tmp_path):
    options = {
        "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
        "load_best_model_at_end": True, "metric_for_best_model": "eval_right",
    }  # fmt: skip
    init = TrainerInit([lambda: EarlyStoppingCallback(1)], **options)
    result = tune(tmp_path, init, objectives=["eval_loss", Objective("eval_right", "maximize")], budget=1)
    best = init.trainers[0].state.best_metric
    assert result.trials[0].values[1] == best
    with pytest.raises(autotune.SearchFailedError, match="load_best_model_at_end: it cannot be combined"):
        tune(tmp_path / "ladder", init, ladder=LADDER, budget=6.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ["right"]}, r"unknown which values of 'right' are better"),
        ({"ladder": Ladder(1, 9)}, r"its top is 9 and not 1"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_run(options, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        tune(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        ({"max_steps": 4}, {"epochs": 2}, "so that the configuration's epochs have no effect"),
        ({"gradient_accumulation_steps": 3}, {"batch_size": 8}, "cannot be divided into 3 micro-batches"),
        ({}, {"schedule": "constant-cooldown"}, "needs the number of steps"),
        ({"optim": "sgd"}, {"lora.lr_ratio": 2.0}, "lacks those of the configuration"),
        ({}, {"train_samples": 99}, "99 is above the 24 examples of the trainer's train_dataset"),
    ],
)
def test_arguments_that_overrule_the_configuration_are_refused(options, config, message, tmp_path):
    given = {"family": "lora", "lora.rank": 2, "lora.learning_rate": 1e-3, **config}
    with pytest.raises(InvalidInputError, match=message):
        TrainerTrial(given, tmp_path).trainer(TrainerInit(**options))


def test_a_trainer_without_an_evaluation_set_or_none_at_all_is_named(tmp_path):
    def without_data(trial: TrainerTrial) -> Trainer:
        return Trainer(
            BertForSequenceClassification(CONFIG), trial.arguments(arguments()), train_dataset=TRAIN
        )

    with pytest.raises(autotune.SearchFailedError, match="eval_dataset"):
        tune(tmp_path / "one", without_data, budget=6)
    with pytest.raises(autotune.SearchFailedError, match="trainer_init: it returned a dict"):
        tune(tmp_path / "two", lambda trial: {}, budget=6)


def test_adalora_allocates_ranks_and_starts_over_on_the_next_rung(tmp_path):
    space = {"families": ["adalora"], "parameters": {"adalora.rank": 2, "batch_size": 4, "epochs": 3}}
    init = TrainerInit()
    with pytest.warns(UserWarning, match="adalora: a checkpoint of transformers lacks its state"):
        result = tune(tmp_path, init, space, ladder=Ladder(0.5, 1, share=1.0), budget=1.5)
    assert result.used == 1.5
    assert [trial.status for trial in result.trials] == ["complete"]
    assert [trainer.state.global_step for trainer in init.trainers] == [9, 18]
    assert init.trainers[-1].model.active_peft_config.rank_pattern
    assert not list(tmp_path.glob("trial-*/checkpoint-*"))


def test_the_callback_ends_a_run_at_a_share_of_its_steps(tmp_path):
    callback = autotune.ReportCallback(until=0.5)
    trainer = TrainerInit(num_train_epochs=2)(TrainerTrial({}, tmp_path))
    trainer.add_callback(callback)
    assert (trainer.train().global_step, callback.steps, callback.is_at_end) == (3, 6, True)
    assert list(callback.curve("loss")) == list(callback.curve("eval_loss")) == [0.5]
    assert (tmp_path / "checkpoint-3").is_dir()


def test_the_callback_wants_a_share():
    with pytest.raises(ValueError, match="is not a share of the steps"):
        autotune.ReportCallback(until=3)


def test_optuna_draws_the_curves_of_a_search(on_ladder):
    result, _, _ = on_ladder
    figure = optuna.visualization.plot_intermediate_values(result.study)
    assert len(figure.data) == sum(bool(trial.intermediate_values) for trial in result.study.trials) > 1
