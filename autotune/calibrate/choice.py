"""The choice of what a sweep leaves open about speed, from at most three seconds of measurement."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from autotune.calibrate.bench import Bench
from autotune.calibrate.cache import keep_answer, read_answer
from autotune.calibrate.candidates import by_rule, is_open
from autotune.calibrate.chunk_size import choose_chunk_size
from autotune.calibrate.layout import choose_layout
from autotune.calibrate.measurement import Choice, Measurement
from autotune.calibrate.question import Answer, Question
from autotune.estimate.speed import computing_with, keep_speed, speed_of
from autotune.estimate.sweep_time import SHORT, threads_of
from autotune.estimate.trial_work import PESSIMISTIC, random_configurations
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.errors import InvalidInputError, first_line
from search_spaces.space import SearchSpace
from trials.data.task_data import TaskData
from trials.tasks.specs import ModelSpec

VARIABLE = "AUTOTUNE_CALIBRATION"
"""The environment variable that switches calibrations off with 0, and ignores earlier ones with `new`."""
SECONDS = 3.0
"""The seconds that a calibration may take, without the loading of the base model."""
_PRECISION, _PROBE = 2.7, 0.2
"""The seconds of them for the choice of the precision, and for a first look at the speed where it is not open."""
_WORKERS_PAY = 30.0
"""The seconds of a sweep above which several processes, which take seconds to start, save time."""
_LARGE = 2**30
"""The bytes of a base model in fp32 that a CPU cannot train on in three seconds."""
_SMALL = 100_000_000
"""A base model of at most so many parameters is measured with one thread. The ratios of the candidates are then those
of their work, whatever else the machine does; several threads wait for each other where others are at work."""
_FP32 = 4


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Args:
        model: the base model, with nothing left open.
        executor: the executor, likewise.
        notes: what was chosen and why, in sentences for the user.
    """

    model: ModelSpec
    executor: ExecutorSpec
    notes: tuple[str, ...] = ()


def calibrate(sweep: Sweep, data: TaskData, space: SearchSpace, costs: CostModel) -> Calibration:
    """Choose what the sweep leaves open about speed; what its author has set is kept.

    Args:
        sweep: the sweep.
        data: of its task.
        space: bound to the base model.
        costs: returns the known costs of a configuration.

    Raises:
        InvalidInputError: the base model cannot be loaded.
    """
    question = Question(sweep, data, costs, random_configurations(space, sweep.seed))
    if len(question.candidates) == 1 and not question.layouts.are_several:
        only = question.candidates[0]
        note = f"precision: {only}, since nothing else suits this device and the format of the weights"
        return Calibration(only.of(sweep.model), sweep.executor, (note,) if is_open(sweep.model) else ())
    why_not = _why_not(question)
    if why_not is not None:
        return _by_rule(sweep, why_not)
    known = None if os.environ.get(VARIABLE) == "new" else read_answer(question)
    if known is not None and _has_right_workers(question, known):
        note = f"calibration (of an earlier sweep on this machine): {known.text}"
        return Calibration(question.model(known), question.executor(known), (note,))
    return _measured(question)


def _why_not(question: Question) -> str | None:
    """Return why a sweep is not measured, or None."""
    from trials.base.model import choose_device

    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    if question.seconds(PESSIMISTIC) <= SHORT:
        return "a sweep of less than a minute is not measured"
    is_cpu = choose_device(question.sweep.model.device).type == "cpu"
    if is_cpu and _FP32 * question.costs.shape.base_parameters > _LARGE:
        return "this base model is too large for a measurement of three seconds"
    return None


def _by_rule(sweep: Sweep, why: str) -> Calibration:
    candidate = by_rule(sweep.model)
    note = f"precision: {candidate}, by the instruction sets of this device, since {why}"
    notes = (note,) if is_open(sweep.model) else ()
    return Calibration(candidate.of(sweep.model), sweep.executor, notes)


def _has_right_workers(question: Question, answer: Answer) -> bool:
    """Return whether a sweep of this length would have that number of processes too."""
    least = min(count for count, _ in question.layouts.divisions)
    is_long = question.seconds_at(answer.rate) > _WORKERS_PAY
    return is_long or answer.layout.processes == least


def _measured(question: Question) -> Calibration:
    """Measure candidates and layouts, and then the speed with the chosen ones, on which the estimates depend."""
    sweep, costs, isolated = question.sweep, question.costs, question.is_isolated
    is_small = costs.shape.base_parameters <= _SMALL
    threads = 1 if is_small else question.layouts.divided[0].threads or threads_of(sweep, costs.shape)
    bench = Bench(sweep.model, sweep.task, question.data, question.config, isolated, threads)
    began = bench.clock()
    try:
        answer = _answer(question, bench)
        seconds = bench.clock() - began
        model, executor = question.model(answer), question.executor(answer)
        chosen = sweep.model_copy(update={"model": model, "executor": executor})
        threads = threads_of(chosen, costs.shape)
        with computing_with(threads):
            base = bench.base(answer.candidate)
            speed = speed_of(base, question.data, question.config, costs, is_isolated=isolated)
    except InvalidInputError:
        raise
    except Exception as error:  # whatever stops this configuration: its trial will report it
        return _by_rule(sweep, f"the measurement failed ({first_line(error, 100)})")
    keep_speed(speed, model, sweep.task, is_isolated=isolated, threads=threads)
    if answer.is_complete:
        keep_answer(question, answer)
    return Calibration(model, executor, (f"calibration ({seconds:.1f} s): {answer.text}",))


def _answer(question: Question, bench: Bench) -> Answer:
    """Measure which candidate and which layout are the fastest."""
    deadline, divided = bench.clock() + SECONDS, question.layouts
    choice = _choice(question, bench)
    rate = choice.rates.get(choice.candidate)
    if rate is None:
        with computing_with(bench.threads):
            rate = 1 / bench.seconds_per_example(choice.candidate, bench.clock() + _PROBE)
    answer = Answer(
        choice.candidate, divided.divided[0], rate, _why(question, choice, bench), choice.is_complete
    )
    if question.seconds_at(rate) <= _WORKERS_PAY:
        divided = divided.of_one_process
    if divided.are_several:
        layout, is_complete = choose_layout(
            bench, choice.candidate, divided, batch_size=question.batch_size, rate=rate, deadline=deadline
        )
        answer = replace(answer, layout=layout, is_complete=answer.is_complete and is_complete)
    return _with_chunks(question, bench, answer, deadline)


def _with_chunks(question: Question, bench: Bench, answer: Answer, deadline: float) -> Answer:
    """Return an answer with a chunk size, as far as the sweep leaves it open."""
    if not question.chunk_sizes:
        return answer
    tokens, reason = choose_chunk_size(
        bench,
        answer.candidate,
        answer.layout,
        question.chunk_sizes,
        batch_size=question.batch_size,
        rate=answer.rate,
        deadline=deadline,
    )
    return replace(answer, chunk_tokens=tokens, why=(*answer.why, reason) if reason else answer.why)


def _choice(question: Question, bench: Bench) -> Choice:
    if len(question.candidates) == 1:
        return Choice(question.candidates[0], {})
    trials = question.layouts.divided[0].trials
    with computing_with(bench.threads):
        measurement = Measurement(
            bench, question.candidates, trials=trials, batch_size=question.batch_size, seconds=_PRECISION
        )
        return measurement.choose()


def _why(question: Question, choice: Choice, bench: Bench) -> tuple[str, ...]:
    """Return what was measured, in clauses for the user."""
    one_process = (question.layouts.note,) if question.layouts.note else ()
    if len(question.candidates) == 1:
        return one_process
    rates = ", ".join(
        f"{each} {choice.rates[each]:,.0f}" if each in choice.rates else f"{each} not measured"
        for each in question.candidates
    )
    unit = f"training examples per second{' of one core' if bench.is_serial else ''}"
    return (*one_process, f"{unit}: {rates}", *choice.reasons)
