"""`autotune.tune_trainer`: search the configurations of a trainer that the user already has."""

from __future__ import annotations

import gc
import shutil
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from autotune.blackbox.evaluations import Answer, EvaluationJob
from autotune.blackbox.objectives import Budget, Objective, read_objectives
from autotune.blackbox.optimization import Report, search
from autotune.blackbox.result import OptimizeResult
from autotune.blackbox.spaces import SpaceLike, read_space
from autotune.ladder.rungs import Ladder
from autotune.results.confirmation import search_seed
from autotune.trainer.trial import TrainerTrial
from autotune.trial_attributes import TrialAttributes
from search_spaces.costs.cost_model import KNOWN_COSTS
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from trials.tasks.metrics import METRICS

if TYPE_CHECKING:
    from transformers import Trainer

    from autotune.trainer.callbacks import ReportCallback

_PREFIX = "eval_"
"""How transformers names the metrics of an evaluation."""
SECONDS = "train_seconds"
"""The metric with the wall time of training, evaluations included."""


def tune_trainer(
    trainer_init: Callable[[TrainerTrial], Trainer],
    space: SpaceLike,
    objectives: Sequence[str | Objective] = ("eval_loss",),
    ladder: Ladder | None = None,
    budget: Budget | float | None = None,
    *,
    model: object | None = None,
    task: str | None = None,
    lengths: Sequence[int] | None = None,
    folder: str | PathLike[str] = "tuned",
    sampler: optuna.samplers.BaseSampler | Mapping[str, Any] | str | None = None,
    seed: int = 0,
) -> OptimizeResult:
    """Search the configurations of a `transformers.Trainer`, or of a trainer of TRL.

    Each trial trains the trainer that `trainer_init` builds and evaluates it on its `eval_dataset`. On a ladder it
    trains to the share of the rung, and a promoted trial resumes from its checkpoint, with the learning-rate schedule
    of the whole run. An exception, an out-of-memory error and a loss that is not finite fail the trial.

    Args:
        trainer_init: builds the trainer of a trial, with the adapter `trial.peft_config(model)` and the arguments
            `trial.arguments(TrainingArguments(...))`.
        space: see `optimize`. The training parameters `batch_size`, `epochs`, `weight_decay`, `warmup` and `schedule`
            and the learning rate of the family reach the trainer through `trial.arguments`. With `train_samples`, a
            trial trains on that many examples of the trainer's `train_dataset`.
        objectives: one to four: metrics of the trainer's evaluation with or without `eval_`, among them those of its
            `compute_metrics`; `train_seconds`; and costs of the model, such as `trainable_params`. The direction of
            other metrics than those of autotune must be given as an `Objective`.
        ladder: rungs as shares of a run, up to 1, such as `Ladder(1 / 9, 1)`; by default every trial is trained to
            its end.
        budget: a `Budget`; a number is the training in all, in full runs.
        model: see `optimize`; a space of adapter families needs it.
        task: see `optimize`.
        lengths: see `optimize`.
        folder: for the study and the trainers' own folders. A call with the same folder and search resumes it.
        sampler: see `optimize`.
        seed: of the sampler, and of the trials' seeds.

    Returns:
        The trials, the front, figures and the report, as for `optimize`.

    Raises:
        InvalidInputError: an argument or the trainer makes the search impossible.
        ValueError: an argument is out of its range, or the folder holds another search.
        SearchFailedError: the first trials all failed.

    Example:
        >>> def trainer_init(trial):
        ...     model = AutoModelForSequenceClassification.from_pretrained("roberta-base")
        ...     model = get_peft_model(model, trial.peft_config(model))
        ...     arguments = trial.arguments(TrainingArguments(eval_strategy="epoch"))
        ...     return Trainer(model, arguments, train_dataset=train, eval_dataset=validation)
        >>> objectives = ["eval_loss", "trainable_params"]
        >>> result = tune_trainer(trainer_init, "lora", objectives, budget=30, model="roberta-base")
    """
    if ladder is not None and ladder.max != 1:
        fix = "Give shares of a run, such as Ladder(1 / 9, 1)."
        raise InvalidInputError(Problem("ladder", f"its top is {ladder.max:g} and not 1", fix))
    place = Path(folder).absolute()
    read = read_objectives([_objective(objective) for objective in objectives])
    runs = _Runs(trainer_init, place, read, seed, has_ladder=ladder is not None and ladder.top > 0)
    result = search(
        runs.evaluate,
        space=read_space(space, model, task, lengths),
        objectives=read,
        ladder=ladder,
        budget=budget,
        sampler=sampler,
        seed=seed,
        storage=place / "study.db",
        workers=1,
    )
    waiting = {trial.number for trial in result.trials if trial.status == "waiting"}
    for trial in result.study.get_trials(deepcopy=False):
        if trial.number not in waiting and (records := TrialAttributes(trial).rung_values):
            _delete_checkpoint(records[-1].state)
    return result


class _Runs:
    """The training runs of a search.

    Args:
        trainer_init: builds the trainer of a trial.
        folder: of the search.
        objectives: of the search.
        seed: of the search.
        has_ladder: whether runs pause on rungs.
    """

    def __init__(
        self,
        trainer_init: Callable[[TrainerTrial], Trainer],
        folder: Path,
        objectives: Sequence[Objective],
        seed: int,
        *,
        has_ladder: bool,
    ) -> None:
        self._trainer_init, self._folder, self._seed = trainer_init, folder, seed
        self._objectives, self._has_ladder = objectives, has_ladder
        limits = [o.max for o in objectives if o.name == SECONDS and o.max is not None]
        self._seconds = limits[0] if limits else None

    def evaluate(self, job: EvaluationJob, report: Report) -> Answer:
        """Train the trial of a job up to its rung, and return its metrics and its checkpoint."""
        try:
            return self._train(job, report)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold the model
            raise
        finally:
            _free_memory()

    def _train(self, job: EvaluationJob, report: Report) -> Answer:
        from autotune.trainer.callbacks import ReportCallback, checkpoint_folder

        seed = search_seed(self._seed, job.number)
        trial = TrainerTrial(dict(job.config), self._folder / f"trial-{job.number}", seed, job.number)
        state = job.state or {}
        before = float(state.get("seconds", 0.0))
        limit = None if self._seconds is None else max(self._seconds - before, 0.0)
        callback = ReportCallback(job.fidelity, lambda share, metrics: report(share, _named(metrics)), limit)
        trainer = trial.trainer(self._trainer_init)
        self._check(trainer)
        trainer.add_callback(callback)
        output = trainer.train(resume_from_checkpoint=state.get("checkpoint"))
        seconds = before + float(output.metrics.get("train_runtime", 0.0))
        if trainer.args.load_best_model_at_end or output.global_step not in callback.points:
            callback.points[output.global_step] = trainer.evaluate()
        metrics: dict[str, Any] = self._curves(callback, output.global_step, job.fidelity)
        checkpoint = checkpoint_folder(trainer.args, output.global_step)
        can_resume = checkpoint.is_dir() and not _keeps_state(trainer, trial)
        _delete_checkpoint(job.state)
        if checkpoint.is_dir() and not can_resume:
            _delete_checkpoint(
                {"checkpoint": str(checkpoint), "is_temporary": trainer.args.save_strategy == "no"}
            )
            return {**metrics, SECONDS: seconds}, None
        return {**metrics, SECONDS: seconds}, {
            "checkpoint": str(checkpoint) if can_resume else None,
            "seconds": seconds,
            "is_temporary": trainer.args.save_strategy == "no",
        }

    def _check(self, trainer: Trainer) -> None:
        """Refuse a trainer that cannot be evaluated, or whose runs cannot pause.

        Raises:
            InvalidInputError: with the argument to change.
        """
        if trainer.eval_dataset is None:
            raise InvalidInputError(
                Problem("eval_dataset", "the trainer has none", "Give Trainer(..., eval_dataset=...).")
            )
        if not self._has_ladder:
            return
        if trainer.args.load_best_model_at_end:
            what, fix = (
                "it cannot be combined with a ladder, which compares trials at its rungs",
                "Remove either.",
            )
            raise InvalidInputError(Problem("load_best_model_at_end", what, fix))
        if trainer.args.save_strategy == "best" or trainer.args.save_only_model:
            what = "the checkpoints on a ladder must be those of its rungs, with the optimizer"
            fix = "Use save_strategy='no', and save_only_model=False."
            raise InvalidInputError(Problem("save_strategy", what, fix))

    def _curves(self, callback: ReportCallback, step: int, fidelity: float) -> dict[str, Any]:
        """Return the curves of the objectives up to the rung, and the other metrics of its last evaluation."""
        last = callback.points[step]
        found: dict[str, Any] = {_short(name): value for name, value in last.items()}
        for objective in self._objectives:
            if _short(objective.name) in found:
                earlier = {s: v for s, v in callback.curve(objective.name).items() if s < fidelity}
                earlier.pop(step / callback.steps, None)
                found[objective.name] = {**earlier, fidelity: found[_short(objective.name)]}
        return found


def _keeps_state(trainer: Trainer, trial: TrainerTrial) -> bool:
    """Return whether the adapter has a state that the trainer's checkpoint lacks, such as AdaLoRA's ranks.

    Such a trial starts over on the next rung, and says so.
    """
    from autotune.trainer.callbacks import peft_model

    model, family = peft_model(trainer.model), REGISTRY.get(str(trial.config.get("family")))
    if model is None or family is None or not family.training_state(model):
        return False
    words = "a checkpoint of transformers lacks its state, so a promoted trial starts over"
    warnings.warn(f"{family.name}: {words}", stacklevel=2)
    return True


def _short(name: str) -> str:
    """Return the name of a metric without `eval_`; the validation loss keeps its name, as in sweeps."""
    return name if name == "eval_loss" else name.removeprefix(_PREFIX)


def _named(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under their names with and without `eval_`."""
    return {**metrics, **{_short(name): value for name, value in metrics.items()}}


def _delete_checkpoint(state: Any) -> None:
    """Delete the checkpoint of a rung, unless the user's trainer keeps checkpoints."""
    if state and state["checkpoint"] is not None and state["is_temporary"]:
        shutil.rmtree(state["checkpoint"], ignore_errors=True)


def _objective(given: str | Objective) -> str | Objective:
    """Return an objective whose direction is known.

    Raises:
        InvalidInputError: it is a metric of the user's, of unknown direction.
    """
    if not isinstance(given, str) or given == SECONDS or given.endswith("loss"):
        return given
    name = given.removeprefix(_PREFIX)
    if name in METRICS or name in KNOWN_COSTS:
        return given if given == name else Objective(given, METRICS[name].direction)
    fix = f'Give Objective("{given}", "maximize") or Objective("{given}", "minimize").'
    raise InvalidInputError(Problem("objectives", f"it is unknown which values of {given!r} are better", fix))


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
