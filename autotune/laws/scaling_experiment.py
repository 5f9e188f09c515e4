"""The scale sweep: small language models trained from scratch, a law from the small ones, the largest as its test."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pandas as pd
import torch

from autotune.laws.fit_table import LossAnswer, answer
from search_spaces.errors import InvalidInputError, Problem
from trials.tasks.pocket.language_models import BUDGETS, SIZES, ScaleRun, Size, Tokens, read_tokens, run_size

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ExtrapolationCheck:
    """What the law of the smaller models said of the largest, and what came.

    Args:
        law: fitted without any run of the largest model.
        largest: the largest model's longest run.
        foretold, low, high: the law's loss there, and its interval.
        level: the interval's probability.
    """

    law: LossAnswer
    largest: ScaleRun
    predicted: float
    low: float
    high: float
    level: float

    @property
    def error(self) -> float:
        """Relative: positive where the law said too much."""
        return self.predicted / self.largest.loss - 1.0

    @property
    def within(self) -> bool:
        return self.low <= self.largest.loss <= self.high

    def as_json(self) -> dict[str, Any]:
        predicted = {"value": self.predicted, "low": self.low, "high": self.high, "level": self.level}
        return {
            "law": self.law.as_json(),
            "largest": asdict(self.largest),
            "predicted": predicted,
            "error": self.error,
            "within": self.within,
        }


def plan(sizes: Sequence[Size] = SIZES, budgets: Sequence[int] = BUDGETS) -> dict[Size, tuple[int, ...]]:
    """The budgets of each size: all of them, of the largest size the last one alone."""
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
    """Train what `out` does not hold yet; every finished point is written at once. A row a run, as `ScaleRun`.

    Args:
        out: a csv file, which is made or gone on with.
        plan: the budgets of each size, in tokens.
        workers: processes, one thread each. The largest sizes begin first.
        tokens: the text; by default the docstrings found here, which take half a minute to read.
        on_point: called with each point, those that were there first.

    Raises:
        InvalidInputError: the file holds something else, or the text is too short for the budgets.
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
            what = f"{longest:,} tokens are asked for, and the docstrings found here have {there:,}"
            fix = "Ask for fewer (--quick does), or install more packages."
            raise InvalidInputError(Problem("budgets", what, fix))
        _train_all(out, missing, tokens, workers, have, on_point)
    frame = pd.DataFrame([asdict(run) for run in _read(out)])
    return frame.sort_values(["params", "tokens"], ignore_index=True)


def check_largest(frame: pd.DataFrame, law: str = "auto", level: float = 0.8) -> ExtrapolationCheck:
    """Fit a law to all models but the largest and ask it for the largest one's longest run.

    Args:
        law: a name in `autotune.laws.fit_table.LAWS`; "auto" takes the one that best predicts the largest budgets of
            the smaller models.

    Raises:
        InvalidInputError: too few points to fit the law.
    """
    largest = frame.sort_values(["params", "tokens"]).iloc[-1]
    smaller = frame[frame["params"] < largest["params"]]
    found = answer(smaller, law, {"params": "params", "tokens": "tokens", "loss": "loss"}, insist=True)
    assert isinstance(found, LossAnswer)
    said = found.choice.predict(np.array([[largest[role] for role in found.roles]], dtype=float), level)
    run = ScaleRun(**{field.name: _plain(largest[field.name]) for field in fields(ScaleRun)})
    return ExtrapolationCheck(
        found, run, float(said.value[0]), float(said.low[0]), float(said.high[0]), level
    )


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
            continue  # a size that was cut off begins anew, and what it had is the same again
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
        what = f"its columns are {', '.join(map(str, frame.columns))}, not those of a scale sweep"
        raise InvalidInputError(Problem(str(out), what, "Name another file."))
    return [ScaleRun(**{name: _plain(row[name]) for name in names}) for _, row in frame.iterrows()]


def _plain(value: Any) -> Any:
    number = float(value)
    return int(number) if number.is_integer() and number >= 1 else number


def _train(size: Size, budgets: tuple[int, ...], tokens: Tokens, queue: Queue[ScaleRun]) -> None:
    """Train one size in a worker process; each finished point is put into the queue."""
    for run in run_size(size, budgets, tokens):
        queue.put(run)
