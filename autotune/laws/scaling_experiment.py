"""A scaling experiment: small language models trained from scratch, and a law that the largest of them validates."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pandas as pd
import torch

from autotune.laws.fit_table import fit_law
from autotune.laws.fits import LossFit
from search_spaces.errors import InvalidInputError, Problem
from trials.tasks.pocket.language_models import BUDGETS, SIZES, ScaleRun, Size, Tokens, read_tokens, run_size

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ExtrapolationCheck:
    """A law of the smaller models, and its prediction for the largest model.

    Args:
        law: fitted without any run of the largest model.
        largest: the longest run of the largest model.
        predicted: the loss of that run according to the law.
        low: the low end of the prediction's interval.
        high: the high end of the prediction's interval.
        level: the probability of the interval.
    """

    law: LossFit
    largest: ScaleRun
    predicted: float
    low: float
    high: float
    level: float

    @property
    def error(self) -> float:
        """The relative error of the prediction, positive if it is too high."""
        return self.predicted / self.largest.loss - 1.0

    @property
    def is_within(self) -> bool:
        """Whether the measured loss is inside the interval."""
        return self.low <= self.largest.loss <= self.high

    def as_json(self) -> dict[str, Any]:
        """Return the check as values that JSON can represent."""
        predicted = {"value": self.predicted, "low": self.low, "high": self.high, "level": self.level}
        return {
            "law": self.law.as_json(),
            "largest": asdict(self.largest),
            "predicted": predicted,
            "error": self.error,
            "is_within": self.is_within,
        }


def plan(sizes: Sequence[Size] = SIZES, budgets: Sequence[int] = BUDGETS) -> dict[Size, tuple[int, ...]]:
    """Return the token budgets of each model size: all of them, and for the largest size only the last one."""
    *smaller, largest = sizes
    return {**dict.fromkeys(smaller, tuple(budgets)), largest: (budgets[-1],)}


def run_scale_sweep(
    out: Path,
    plan: Mapping[Size, tuple[int, ...]],
    *,
    workers: int = 2,
    tokens: Tokens | None = None,
    on_point: Callable[[ScaleRun], None] = lambda run: None,
) -> pd.DataFrame:
    """Train the runs that `out` does not hold yet, and append every run to it as soon as it is finished.

    Args:
        out: a csv file with the columns of `ScaleRun`; it is created if it does not exist.
        plan: the budgets of each model size, in tokens.
        workers: worker processes, with one thread each. The largest sizes start first.
        tokens: the text; by default the docstrings of the installed packages, which take half a minute to read.
        on_point: called with each run, first with those that `out` already held.

    Returns:
        One row per run, with the columns of `ScaleRun`, sorted by parameters and tokens.

    Raises:
        InvalidInputError: the file has other columns, or the text is too short for the budgets.
    """
    done = _read(out)
    for run in done:
        on_point(run)
    have = {(run.width, run.layers, run.tokens) for run in done}
    missing = {
        size: budgets
        for size, budgets in plan.items()
        if any((size.width, size.layers, budget) not in have for budget in budgets)
    }
    if missing:
        tokens = tokens or read_tokens()
        longest, there = max(max(budgets) for budgets in missing.values()), len(tokens.train)
        if longest > there:
            what = (
                f"{longest:,} tokens are needed, and the docstrings of the installed packages have {there:,}"
            )
            fix = "Add --quick, which needs fewer, or install more packages."
            raise InvalidInputError(Problem("budgets", what, fix))
        _train_all(out, missing, tokens, workers, have, on_point)
    frame = pd.DataFrame([asdict(run) for run in _read(out)])
    return frame.sort_values(["params", "tokens"], ignore_index=True)


def check_largest(frame: pd.DataFrame, law: str = "auto", level: float = 0.8) -> ExtrapolationCheck:
    """Fit a law to all models but the largest, and predict the longest run of the largest.

    Args:
        frame: one row per run, as `run_scale_sweep` returns.
        law: one of `autotune.laws.fit_table.LAWS`; `auto` picks the one that best predicts the largest budgets of the
            smaller models.
        level: the probability of the interval.

    Raises:
        InvalidInputError: there are too few points to fit the law.
    """
    largest = frame.sort_values(["params", "tokens"]).iloc[-1]
    smaller = frame[frame["params"] < largest["params"]]
    columns = {role: role for role in ("params", "tokens", "loss")}
    fit = fit_law(smaller, law, columns, force_law=True)
    assert isinstance(fit, LossFit)
    loss = fit.predict({role: float(largest[role]) for role in fit.roles}, level).loss
    run = ScaleRun(**{field.name: _plain(largest[field.name]) for field in fields(ScaleRun)})
    return ExtrapolationCheck(fit, run, loss.value, loss.low, loss.high, level)


def _train_all(
    out: Path,
    missing: Mapping[Size, tuple[int, ...]],
    tokens: Tokens,
    workers: int,
    have: set[tuple[int, int, int]],
    on_point: Callable[[ScaleRun], None],
) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        # One thread per process: the models are too small for more.
        with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running = {
                pool.submit(_train, size, missing[size], tokens, queue)
                for size in sorted(missing, key=lambda size: -size.width * size.layers)
            }
            try:
                while running:
                    finished, running = wait(running, timeout=_POLL_SECONDS)
                    _write_points(out, queue, have, on_point)
                    for future in finished:
                        future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise


def _write_points(
    out: Path, queue: Queue[ScaleRun], have: set[tuple[int, int, int]], on_point: Callable[[ScaleRun], None]
) -> None:
    while True:
        try:
            run = queue.get_nowait()
        except Empty:
            return
        if (run.width, run.layers, run.tokens) in have:
            continue  # a size that was interrupted starts again and repeats its finished runs exactly
        have.add((run.width, run.layers, run.tokens))
        pd.DataFrame([asdict(run)]).to_csv(out, mode="a", header=not out.exists(), index=False)
        on_point(run)


def _read(out: Path) -> list[ScaleRun]:
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return []
    frame = pd.read_csv(out)
    names = [field.name for field in fields(ScaleRun)]
    if list(frame.columns) != names:
        what = f"its columns are {', '.join(map(str, frame.columns))}, not those of a scaling experiment"
        raise InvalidInputError(Problem(str(out), what, "Give another file with --out."))
    return [ScaleRun(**{name: _plain(row[name]) for name in names}) for _, row in frame.iterrows()]


def _plain(value: float) -> Any:
    """Return a number of a table as a Python number, whole ones as integers."""
    number = float(value)
    return int(number) if number.is_integer() and number >= 1 else number


def _train(size: Size, budgets: tuple[int, ...], tokens: Tokens, queue: Queue[ScaleRun]) -> None:
    """Train one model size in a worker process, and put every finished run in the queue."""
    for run in run_size(size, budgets, tokens):
        queue.put(run)
