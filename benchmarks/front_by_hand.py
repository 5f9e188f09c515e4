"""A hand-written search: Optuna, transformers.Trainer and peft, in several processes that share one study.

Each process imports its libraries and tokenizes, and then waits for its first trial: the clock of
`benchmarks.time_to_front` starts when all are ready.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.front_records import SMALLEST, Done, Record

if TYPE_CHECKING:
    import optuna

STUDY = "by hand"
_EXIT_SECONDS = 10.0
"""Seconds in which a process stores its last trial and exits."""


class Workers:
    """Processes that propose, train and report one trial at a time each.

    Args:
        count: of the processes.
        threads: of each.
        sweep: the model, the task, the space and the fidelity, as a mapping.
        study: the SQLite file of the study, which is created if it is not there.
        record: of the arm, with the trials that ended in an earlier process.
    """

    def __init__(
        self, count: int, threads: int, sweep: Mapping[str, Any], study: Path, record: Record
    ) -> None:
        self._given = (threads, dict(sweep), f"sqlite:///{study}", record.arm, record.seed)
        self._count, self._ended = count, len(record.trials)
        self._workers: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Self:
        end_running(open_study(self._given[2], self._given[3], 0))
        context = multiprocessing.get_context("spawn")
        for index in range(self._count):
            ours, theirs = context.Pipe()
            entropy = (
                self._given[4],
                index,
                self._ended,
            )  # a resumed sampler must not repeat its first proposals
            process = context.Process(target=_work, args=(theirs, entropy, *self._given), daemon=True)
            process.start()
            theirs.close()
            self._workers[ours] = process
        for pipe in self._workers:
            self._receive(pipe)
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._workers:
            pipe.close()  # a worker without a trial exits
        for process in self._workers.values():
            process.join(_EXIT_SECONDS * (error[0] is None))
            process.terminate()
            process.join()

    def trials(self, may_begin: Callable[[int], bool]) -> Iterator[Done]:
        """Yield trials in the order of their end, without their clocks, until none runs and none may begin.

        Args:
            may_begin: receives the number of trials that have begun, and returns whether another one may.
        """
        begun, running, free = self._ended, set[Connection](), list(self._workers)
        while True:
            while free and may_begin(begun):
                pipe = free.pop(0)
                pipe.send(None)
                running.add(pipe)
                begun += 1
            if not running:
                return
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                yield self._receive(pipe)
                pipe.send(None)  # it is recorded
                running.remove(pipe)
                free.append(pipe)

    def _receive(self, pipe: Connection) -> Any:
        """Return a worker's message.

        Raises:
            RuntimeError: The worker has failed or died.
        """
        try:
            message = pipe.recv()
        except EOFError:
            raise RuntimeError("a process of a hand-written arm has died") from None
        if isinstance(message, str):
            raise RuntimeError(f"a process of a hand-written arm has failed:\n{message}")
        return message


def open_study(storage: str, arm: str, seed: int) -> optuna.Study:
    """Return the study of an arm, a new one if there is none.

    Args:
        storage: the address of the study.
        arm: `gp` or `tpe`.
        seed: of the sampler.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.GPSampler(seed=seed)
        if arm == "gp"
        else optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    )
    return optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=sampler,
        storage=storage,
        study_name=STUDY,
        load_if_exists=True,
    )


def end_running(study: optuna.Study) -> None:
    """Mark the trials as failed that an ended process left running: a sampler would wait for their values."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _work(
    pipe: Connection,
    entropy: tuple[int, ...],
    threads: int,
    sweep: dict[str, Any],
    storage: str,
    arm: str,
    seed: int,
) -> None:
    """Run a worker process.

    It sends None when it is ready. For a message it trains a trial and sends it; for another one, which says that the
    trial is recorded, it stores the trial in the study. An error is sent as its traceback.
    """
    try:
        import numpy as np
        import peft  # noqa: F401  # imports are not in the time of a trial
        import torch
        import transformers
        from transformers import Trainer  # noqa: F401

        from autotune.prepare.prepared_sweep import prepare
        from autotune.sweep.sweep_file import parse_sweep

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        prepared = prepare(parse_sweep(sweep))
        sampler_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        study = open_study(storage, arm, sampler_seed)
        pipe.send(None)
        with tempfile.TemporaryDirectory() as folder:
            while True:
                pipe.recv()
                trial, done = run_trial(study, prepared, seed, folder)
                pipe.send(done)
                pipe.recv()  # a study must not know a trial that the record lacks
                study.tell(trial, told(done))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the benchmark has ended
        sys.exit()
    except Exception:
        pipe.send(traceback.format_exc())


def run_trial(study: optuna.Study, prepared: Any, seed: int, folder: str) -> tuple[optuna.Trial, Done]:
    """Propose and train one trial, and return it with its results, without their clocks."""
    trial = study.ask()
    config = prepared.space.suggest(trial)
    accuracy = with_trainer(prepared, config, 1000 * seed + trial.number, folder)
    costs = prepared.costs(config)
    return trial, Done(
        trial.number, 0.0, 0.0, costs.train_flops, 1.0, accuracy, float(costs.trainable_params)
    )


def told(done: Done) -> tuple[float, float]:
    """Return what the study receives of a trial: its accuracy and the logarithm of its parameters."""
    assert done.accuracy is not None
    assert done.parameters is not None
    return done.accuracy, math.log10(max(done.parameters, SMALLEST))


def with_trainer(prepared: Any, config: Mapping[str, Any], seed: int, folder: str) -> float:
    """The accuracy on validation of one configuration, trained as a script of transformers and peft does."""
    from peft import get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from search_spaces.families import REGISTRY, local_config
    from trials.base.parameter_groups import freeze
    from trials.tasks.specs import resolve_model
    from trials.training.run import learning_rate
    from trials.training.schedules import transformers_schedule
    from trials.training.subsets import subset

    data, shape, fidelity = prepared.data, prepared.shape, prepared.sweep.fidelity
    train = subset(data.splits["train"], fidelity.train_samples, seed=0)
    held_out = subset(data.splits["validation"], fidelity.eval_samples, seed=0)
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_model(prepared.sweep.model.name), num_labels=data.outputs
    )
    family = REGISTRY[str(config["family"])]
    parameters = local_config(family.name, config)
    adapted = get_peft_model(model, family.peft_config(parameters, shape, shape.task))
    freeze(adapted, family.learning_rate_factors(parameters))
    batch, epochs = int(config["batch_size"]), int(config["epochs"])
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=64,
        num_train_epochs=float(epochs),
        learning_rate=learning_rate(config),
        weight_decay=float(config["weight_decay"]),
        **transformers_schedule(config, -(-len(train) // batch) * epochs),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )
    trainer = Trainer(
        adapted,
        arguments,
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=DataCollatorWithPadding(data.tokenizer),
        compute_metrics=lambda scored: {
            "accuracy": float((scored.predictions.argmax(-1) == scored.label_ids).mean())
        },
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return float(trainer.evaluate()["eval_accuracy"])
