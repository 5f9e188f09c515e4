"""The user's own scores at the start of a sweep: their code is imported, and their directions are settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from autotune.objectives import OBJECTIVE_NAMES
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from trials.data.task_data import TaskData
from trials.kinds.kind import Metric, TaskKind
from trials.kinds.registry import find_kind
from trials.scoring.groups import WORST_GROUP
from trials.scoring.own import OwnScoreError, answers_of, stated_metrics
from trials.tasks.metrics import metrics_for
from trials.tasks.own_code import OwnCode, as_reference, digest, load
from trials.tasks.score_specs import OwnScore, further_metrics
from trials.tasks.specs import TaskSpec
from trials.training.evaluation import constant_answer
from trials.training.held_out import own_scores

CODE_FOLDER = "code"
"""The folder of a sweep that keeps the files of the user's code."""


def with_code(sweep: Sweep, files: Iterable[str | Path]) -> Sweep:
    """Return a sweep with the files of code that the command line names.

    A file that no score names is made importable for the others.

    Raises:
        InvalidInputError: a file cannot be read, or the sweep uses no function of any of them.
    """
    code = tuple(OwnCode.read(Path(file)) for file in files)
    modules = [each.module for each in code]
    if code and not _scored_modules(sweep) & {*modules}:
        what = f"the sweep has no score of {' or '.join(map(repr, modules))}"
        raise InvalidInputError(Problem("--code", what, f"Write metric: {modules[0]}:FUNCTION."))
    return sweep.model_copy(update={"task": sweep.task.model_copy(update={"code": code})})


def _scored_modules(sweep: Sweep) -> set[str]:
    return {str(as_reference(name)).partition(":")[0] for name in own_functions(sweep)}


def own_functions(sweep: Sweep) -> dict[str, str]:
    """Return the user's own functions that a sweep names, and the field that names each."""
    task, found = sweep.task, dict[str, str]()
    if task.evaluate is not None:
        found[task.evaluate] = "task.evaluate"
    for name in task.own_metrics:
        found.setdefault(name, "task.metric" if name == task.metric else "task.scores")
    for i, objective in enumerate(sweep.objectives):
        if _is_own(objective.name, task) and as_reference(objective.name) is not None:
            found.setdefault(objective.name, f"objectives[{i}]")
    return found


def with_own_scores(sweep: Sweep) -> Sweep:
    """Import the user's own functions, and return the sweep with the direction of each of their scores.

    A direction is known from `task.scores`, from the objective, or from the attributes of the function.

    Raises:
        InvalidInputError: a function cannot be imported, or a direction is not known or contradictory.
    """
    functions, task = own_functions(sweep), sweep.task
    if not functions:
        return sweep
    known, problems = {score.name: score.metric for score in task.scores}, list[Problem]()
    for name, where in functions.items():
        try:
            stated = stated_metrics(load(name, task.code), name)
        except OwnScoreError as error:
            problems.append(Problem(where, f"{name!r}: {error}", _import_fix(name)))
            continue
        for score, metric in stated.items():
            if known.setdefault(score, metric).direction != metric.direction:
                what = f"{score!r} has the direction {known[score].direction}, and its code says otherwise"
                problems.append(
                    Problem("task.scores", what, f"Write {metric.direction}, or change the code.")
                )
    if problems:
        raise InvalidInputError(problems)
    objectives = []
    for i, objective in enumerate(sweep.objectives):
        if not _is_own(objective.name, task):
            objectives.append(objective)
            continue
        if not objective.is_direction_open:
            known.setdefault(objective.name, Metric(objective.direction, None))
        found = known.get(objective.name)
        if found is None:
            problems.append(_unknown_direction(f"objectives[{i}]", objective.name))
        elif not objective.is_direction_open and objective.direction != found.direction:
            what = f"{objective.direction!r} is the wrong direction for {objective.name}"
            fix = f"Write {found.direction}, or remove direction."
            problems.append(Problem(f"objectives[{i}].direction", what, fix))
        else:
            objectives.append(objective.model_copy(update={"direction": found.direction}))
    has_answers = type(find_kind(task.type)).answers is not TaskKind.answers or task.generation is not None
    if not has_answers and (scored := [name for name in functions if name != task.evaluate]):
        what = f"{scored[0]!r} receives predictions, and {task.type} has none without generated text"
        fix = "Write generation: true in the task, or name a function of the model with evaluate."
        problems.append(Problem(functions[scored[0]], what, fix))
    if _is_own(task.metric, task) and task.metric not in known:
        problems.append(_unknown_direction("task.metric", task.metric))
    if problems:
        raise InvalidInputError(problems)
    scores = tuple(
        OwnScore(name=name, direction=metric.direction, best=metric.best, worst=metric.worst)
        for name, metric in known.items()
    )
    return sweep.model_copy(
        update={"task": task.model_copy(update={"scores": scores}), "objectives": tuple(objectives)}
    )


def own_baseline(sweep: Sweep, data: TaskData) -> dict[str, float]:
    """Return the own scores of the best constant answer, which shows whether the functions work before any training.

    Raises:
        InvalidInputError: a function raises an exception, returns no finite numbers, or lacks an objective.
    """
    task = sweep.task
    columns = constant_answer(data, task.type) if task.own_metrics else None
    if columns is None:
        return {}
    try:
        split = data.splits["validation"], data.raw["validation"]
        found = own_scores(task, answers_of(find_kind(task.type), columns, *split, data.scoring))
    except OwnScoreError as error:
        fix = "Correct the function: it receives lists of texts, predictions and references."
        raise InvalidInputError(Problem("task.metric", str(error), fix)) from error
    if task.evaluate is None:
        check_returned(sweep, found)
    return found


def check_returned(sweep: Sweep, returned: Mapping[str, float]) -> None:
    """Check that the scores that a sweep needs are among those that the user's own functions returned.

    Raises:
        InvalidInputError: one is missing.
    """
    task = sweep.task
    needed = {f"objectives[{i}]": objective.name for i, objective in enumerate(sweep.objectives)}
    problems = [
        Problem(where, f"no function returned the score {name!r}", f"They returned: {', '.join(returned)}.")
        for where, name in {"task.metric": task.metric, **needed}.items()
        if _is_own(name, task) and name not in returned
    ]
    if problems:
        raise InvalidInputError(problems)


def code_digests(sweep: Sweep) -> dict[str, str]:
    """Return the digest of the code of each of the user's own functions, and of each file that they may import."""
    scored = _scored_modules(sweep)
    helpers = {f"{each.module}.py": each.digest for each in sweep.task.code if each.module not in scored}
    return {name: digest(name, sweep.task.code) for name in own_functions(sweep)} | helpers


def keep_code(folder: Path, task: TaskSpec) -> None:
    """Write the files of the user's code into a sweep's folder, from which an export copies them."""
    for each in task.code:
        (folder / CODE_FOLDER).mkdir(exist_ok=True)
        (folder / CODE_FOLDER / f"{each.module}.py").write_text(each.text, encoding="utf-8")


def _is_own(name: str, task: TaskSpec) -> bool:
    others = {WORST_GROUP, *OBJECTIVE_NAMES, *metrics_for(task.type), *further_metrics(task.also, task.type)}
    return name not in others


def _unknown_direction(where: str, name: str) -> Problem:
    function = name.partition(":")[2] or name
    fix = f"Write {{name: {name}, direction: maximize}}, or set {function}.direction in the code."
    return Problem(where, f"whether {name!r} is maximized or minimized is not known", fix)


def _import_fix(name: str) -> str:
    module = str(as_reference(name)).partition(":")[0]
    return (
        f"Name its file on the command line (--code {module.partition('.')[0]}.py), or install its package."
    )
