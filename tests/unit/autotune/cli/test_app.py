"""The command line: what commands pass on and print, and their exit statuses. The engine is replaced by a fake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from autotune.cli.app import QUIETING, app
from autotune.cli.status import overview, overview_json
from autotune.cli.terminal import EXIT_INTERNAL_ERROR
from autotune.engine.events import Listener, Progress
from autotune.ledger.ledger import LedgerError
from autotune.results.completion import budget_used, is_finished
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import dump_sweep, load_sweep
from search_spaces.errors import InvalidInputError, Problem
from tests.support.confirmations import confirm_in_rounds, noisy, searched_sweep, with_runs
from tests.support.synthetic import synthetic_results
from trials.execution.errors import ExecutorError

COMMANDS = ("run", "resume", "status", "report", "export", "train", "probe", "init", "spaces", "cost")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment variables that the command line sets."""
    for name, value in QUIETING.items():
        monkeypatch.setenv(name, value)


class Engine:
    """Replaces `autotune.engine.sweep_run`: records its calls, and runs a function of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Sweep, Path]] = []
        self.then: Callable[[Path], None] = lambda folder: None
        module = ModuleType("autotune.engine.sweep_run")
        self.interrupted = type("SweepInterruptedError", (Exception,), {})
        vars(module).update(run_sweep=self.run, SweepInterruptedError=self.interrupted)
        monkeypatch.setitem(sys.modules, "autotune.engine.sweep_run", module)

    def run(self, sweep: Sweep, folder: Path, listener: Listener, *, old_front: object = None) -> SweepTables:
        self.calls.append((sweep, folder))
        listener.progress(Progress("loading"))
        self.then(folder)
        listener.sweep_started(sweep, ["2,000 examples"])
        return synthetic_results(folder)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return Engine(monkeypatch)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


# --- run and resume


def test_run_uses_the_default_folder(engine: Engine) -> None:
    result = invoke("run", "quickstart")
    assert result.exit_code == 0, result.output
    ((sweep, folder),) = engine.calls
    assert sweep == load_sweep("quickstart")
    assert folder == Path("sweeps/quickstart")
    assert "· 2,000 examples" in result.stdout
    assert "autotune export sweeps/quickstart --pick knee --to RUN" in result.stdout


def test_run_with_changes(engine: Engine) -> None:
    assert invoke("run", "quickstart", "--trials", "40", "--seed", "7", "--out", "here").exit_code == 0
    ((sweep, folder),) = engine.calls
    assert (sweep.budget.trials, sweep.seed, folder) == (40, 7, Path("here"))
    assert sweep.task == load_sweep("quickstart").task


def test_quiet_prints_only_the_result(engine: Engine) -> None:
    result = invoke("run", "quickstart", "--quiet")
    assert result.stdout.startswith("sweep")
    assert "2,000 examples" not in result.output


def test_resume_uses_the_sweep_of_the_folder(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    loaded = load_sweep("quickstart")
    dump_sweep(loaded, folder / "sweep.yaml")
    assert invoke("resume", str(folder), "--trials", "60").exit_code == 0
    ((sweep, where),) = engine.calls
    assert sweep.budget.trials == 60
    assert sweep.model_copy(update={"budget": loaded.budget}) == loaded
    assert where == folder


def test_ctrl_c_prints_the_command_that_continues(engine: Engine, tmp_path: Path) -> None:
    def stop(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "study.db").touch()
        raise engine.interrupted

    engine.then = stop
    result = invoke("run", "quickstart", "--out", "my sweeps/one")
    assert result.exit_code == 130
    assert "autotune resume 'my sweeps/one'" in result.stderr
    assert "Traceback" not in result.output


def test_ctrl_c_while_loading(engine: Engine) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    engine.then = stop
    result = invoke("run", "quickstart")
    assert result.exit_code == 130
    assert "Run the same command to start again." in result.stderr


# --- errors


def test_problems_are_listed_on_stderr(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "modle: x\ntask: {train: no.tsv, text: a, label: b}\nbudget: {trials: 0}\n"
    )
    result = invoke("run", "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("4 errors in bad.yaml:")
    assert "• modle: unknown key\n    → Did you mean 'model'?" in result.stderr
    assert "• budget.trials: 0 is out of range\n    → It must be at least 1." in result.stderr
    assert engine.calls == []
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_square_brackets_survive(engine: Engine) -> None:
    def refuse(folder: Path) -> None:
        raise InvalidInputError(Problem("objectives[1].max", "[bold] is not a number", "Write one."))

    engine.then = refuse
    result = invoke("run", "quickstart")
    assert "objectives[1].max: [bold] is not a number" in result.stderr
    assert result.stderr.startswith("1 error in quickstart:")


@pytest.mark.parametrize("error", [ValueError("no such luck"), KeyError("x"), AssertionError()])
def test_a_defect_of_autotune_is_not_reported_as_the_users_error(engine: Engine, error: Exception) -> None:
    def break_down(folder: Path) -> None:
        raise error

    engine.then = break_down
    result = invoke("run", "quickstart")
    assert result.exit_code == EXIT_INTERNAL_ERROR
    assert result.stderr.startswith(f"Internal error: {type(error).__name__}: ")
    assert "test_app.py, line " in result.stderr
    assert "autotune --verbose run ..." in result.stderr
    assert "Traceback" not in result.output
    loud = invoke("--verbose", "run", "quickstart")
    assert loud.exit_code == EXIT_INTERNAL_ERROR
    assert "Traceback" in loud.stderr
    assert "in break_down" in loud.stderr


def test_the_traceback_of_invalid_input_is_shown_when_verbose(engine: Engine) -> None:
    def refuse(folder: Path) -> None:
        raise InvalidInputError(Problem("seed", "is odd", "Write an even one."))

    engine.then = refuse
    assert "Traceback" not in invoke("run", "quickstart").stderr
    loud = invoke("--verbose", "run", "quickstart")
    assert loud.exit_code == 2
    assert "Traceback" in loud.stderr
    assert "• seed: is odd" in loud.stderr


def test_an_option_that_cannot_be_parsed_is_reported_by_typer(engine: Engine) -> None:
    result = invoke("run", "quickstart", "--trials", "many")
    assert result.exit_code == 2
    assert "--trials" in result.stderr
    assert "Internal error" not in result.stderr


@pytest.mark.parametrize("kind", [LedgerError, ExecutorError, OSError])
def test_failures_exit_with_status_1(engine: Engine, kind: type[Exception]) -> None:
    def fail(folder: Path) -> None:
        raise kind("the disk is full")

    engine.then = fail
    result = invoke("run", "quickstart")
    assert (result.exit_code, result.stderr) == (1, "Error: the disk is full\n")


@pytest.mark.parametrize("command", ["resume", "status", "report"])
def test_a_folder_without_a_sweep(engine: Engine, tmp_path: Path, command: str) -> None:
    result = invoke(command, str(tmp_path))
    assert result.exit_code == 2
    assert "holds no sweep.yaml" in result.stderr


# --- status, report, export, train, init


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SweepTables:
    """A finished sweep that every command reads."""
    made = synthetic_results(tmp_path, objectives=3)
    monkeypatch.setattr("autotune.results.sweep_tables.read_tables", lambda folder: made)
    monkeypatch.setenv("COLUMNS", "160")
    return made


def test_status(results: SweepTables) -> None:
    result = invoke("status", str(results.folder))
    assert result.exit_code == 0
    flat = " ".join(result.stdout.split())
    counts = results.trials["status"].value_counts()
    assert f"trials {counts['complete']} complete, {counts['failed']} failed" in flat
    assert f"of {results.sweep.budget.trials} trials" in flat
    assert "majority class: accuracy 50.9" in flat
    assert f"{len(results.front)} points, hypervolume 0." in flat
    for trial in results.front["trial"]:
        assert f" {trial} " in result.stdout


def test_status_shows_the_failures_and_their_tracebacks(results: SweepTables) -> None:
    failed = results.trials.loc[results.trials["status"] == "failed", "trial"].tolist()
    text = " ".join(invoke("status", str(results.folder)).stdout.split())
    assert f"trial {failed[-1]}: the loss is not finite" in text
    assert f"--traceback {failed[-1]}" in text
    shown = invoke("status", str(results.folder), "--traceback", str(failed[0]))
    assert shown.stdout.startswith("Traceback (most recent call last):\nDivergedError: the loss")
    complete = int(results.front["trial"].iloc[0])
    refused = invoke("status", str(results.folder), "--traceback", str(complete))
    assert refused.exit_code == 2
    assert f"trial {complete} has no traceback" in " ".join(refused.stderr.split())


def test_status_as_json(results: SweepTables) -> None:
    found = json.loads(invoke("status", str(results.folder), "--json").stdout)
    assert found == overview_json(results)
    assert [point["trial"] for point in found["front"]] == results.front["trial"].tolist()
    assert found["budget"]["trials"] == {
        "used": float((results.trials["status"] != "pruned").sum()),
        "limit": 30,
    }
    assert found["trials"]["failed"] == 3
    assert 0 < found["hypervolume"] <= 1
    costs = [point["trainable_params"] for point in found["front"]]
    assert costs == sorted(costs)


def test_the_name_of_a_folder_is_no_markup(results: SweepTables) -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(overview(replace(results, folder=Path("sweeps/b[red]x"))))
    assert "sweeps/b[red]x" in output.getvalue()


def test_a_transfer_names_the_folder_that_holds_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = invoke("transfer", "nofolder", "--to", "quickstart")
    assert found.exit_code == 2
    assert "1 error:\n  • DIR: there is no folder 'nofolder'" in found.stderr
    assert "Loading libraries" not in found.output


def test_the_next_steps_depend_on_the_budget(tmp_path: Path) -> None:
    def text(**changes: Any) -> str:
        made = synthetic_results(tmp_path, sweep=changes)
        console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(overview(made))
        return console.export_text()

    assert "autotune resume" in text(budget={"trials": 300})
    assert "autotune resume" not in text(budget={"flops": 1.0})
    unconfirmed = synthetic_results(tmp_path, confirm_seeds=0, sweep={"budget": {"trials": 3}})
    assert not is_finished(unconfirmed)
    switched_off = synthetic_results(
        tmp_path, confirm_seeds=0, sweep={"budget": {"trials": 3}, "confirm": {"seeds": 0}}
    )
    assert is_finished(switched_off)
    assert budget_used(switched_off)["trials"] == (27.0, 3)


def test_an_interrupted_confirmation_is_not_finished(tmp_path: Path) -> None:
    searched = replace(searched_sweep([1e3, 1e5], [0.7, 0.9], seeds=2), folder=tmp_path)
    sweep = searched.sweep.model_copy(update={"budget": Budget(trials=2)})
    searched = replace(searched, sweep=sweep, trials=searched.trials.assign(elapsed=1.0))
    score = noisy([0.7, 0.9], 0.01)

    def text(results: SweepTables) -> str:
        console = Console(width=200, file=io.StringIO())
        console.print(overview(results, next_steps=True))
        return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]

    for ended in (0, 1):
        stopped = with_runs(searched, score, confirm_in_rounds(searched, score, stop_after=ended))
        assert not is_finished(stopped)
        assert f"confirmation {ended} of 4 runs" in text(stopped)
        assert f"continue autotune resume {tmp_path}" in text(stopped)
        assert overview_json(stopped)["confirmation"] == {"ended": ended, "total": 4, "complete": False}
    runs = confirm_in_rounds(searched, score)
    complete = with_runs(searched, score, runs)
    assert is_finished(complete)
    assert f"confirmation {len(runs)} runs, complete" in text(complete)
    assert "resume" not in text(complete)
    # A run that failed is not trained again.
    assert is_finished(replace(with_runs(searched, score, []), ended_confirmations=frozenset(runs)))


def test_the_hours_of_a_budget_are_wall_time(tmp_path: Path) -> None:
    made = synthetic_results(tmp_path, sweep={"budget": {"minutes": 17}})
    spent, limit = budget_used(made)["hours"]
    assert (spent * 3600, limit) == (made.trials["elapsed"].max(), pytest.approx(17 / 60))
    assert not is_finished(made)
    together = made.trials.assign(seconds=8 * made.trials["seconds"])  # in a pack of eight
    assert not is_finished(replace(made, trials=together))
    assert is_finished(replace(made, trials=made.trials.assign(elapsed=1021.0)))


def test_status_recommends_a_point_and_says_why(results: SweepTables) -> None:
    text = " ".join(invoke("status", "DIR").stdout.split())
    assert f"recommended trial {pick_trial(results, 'knee')}: the front " in text
    assert overview_json(results)["recommended"] == pick_trial(results, "knee")


def test_status_recommends_nothing_below_the_baseline(results: SweepTables) -> None:
    useless = replace(results, baselines={"majority class": 0.999})
    output = io.StringIO()
    Console(file=output, width=120).print(overview(useless))
    text = " ".join(output.getvalue().split())
    assert "recommended no point of the front beats the baseline majority class" in text
    assert "autotune export" not in output.getvalue()
    assert overview_json(useless)["recommended"] is None


def test_an_empty_sweep_has_a_status(tmp_path: Path) -> None:
    made = synthetic_results(tmp_path, statuses=["running", "running"])
    found = overview_json(made)
    assert found["front"] == []
    assert found["hypervolume"] == 0
    assert not found["finished"]
    Console(file=open(os.devnull, "w")).print(overview(made))  # noqa: SIM115


def test_report_prints_what_it_wrote(results: SweepTables) -> None:
    result = invoke("report", str(results.folder))
    assert result.exit_code == 0, result.output
    written = [Path(line).name for line in result.stdout.split()]
    assert set(written) == {"front.csv", "trials.parquet", "report.html"}
    assert all((results.folder / name).stat().st_size for name in written)


def test_export_passes_its_options_on(results: SweepTables, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def export_run(*arguments: Any) -> Path:
        calls.append(arguments)
        return Path("my run")

    module = ModuleType("autotune.export.run_folder")
    vars(module).update(export_run=export_run)
    monkeypatch.setitem(sys.modules, "autotune.export.run_folder", module)
    conditions = ["--where", "trainable_params<=1%", "--where", "accuracy>=0.8"]
    result = invoke("export", "DIR", "--pick", "best", *conditions, "--to", "my run")
    assert calls == [(results, "best", conditions[1::2], Path("my run"), None, None)]
    assert "autotune train 'my run'" in result.stdout
    assert "Trial " not in result.stdout
    assert f"Trial {pick_trial(results, 'knee')}: the front " in invoke("export", "DIR", "--to", "x").stdout
    assert calls[1][1:] == ("knee", [], Path("x"), None, None)
    assert invoke("export", "DIR").exit_code == 2  # --to is required


def test_train_leaves_the_output_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module, trained = ModuleType("autotune.export.run_folder"), []
    vars(module).update(train_run=lambda run, changed_data: trained.append((run, changed_data)))
    monkeypatch.setitem(sys.modules, "autotune.export.run_folder", module)
    result = invoke("train", "RUN")
    assert (result.exit_code, result.stdout, trained) == (0, "", [(Path("RUN"), False)])
    invoke("train", "RUN", "--changed-data")
    assert trained[1:] == [(Path("RUN"), True)]

    def fail(run: Path, changed_data: bool) -> None:
        raise RuntimeError("train.py ended with exit code 3")

    vars(module).update(train_run=fail)
    result = invoke("train", "RUN")
    assert (result.exit_code, result.stderr) == (1, "Error: train.py ended with exit code 3\n")


def test_init_prints_what_it_inferred(reviews: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    arguments = ("init", "--model", str(tmp_path), "--data", str(reviews / "train.tsv"), "--out", str(out))
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "· text: column 'sentence', which has the longest texts" in result.stdout
    assert "· validation: validation.tsv, found beside train.tsv" in result.stdout
    assert load_sweep(out).task.label == "label"
    again = invoke(*arguments)
    assert again.exit_code == 2
    assert "--force" in again.stderr


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = invoke(command, "--help").stdout
    assert f"$ autotune {command} " in text


def test_help_lists_every_command() -> None:
    text = invoke("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)
    assert invoke().stdout.strip() == text.strip()
    assert "autotune run quickstart" in text


def test_version_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from autotune.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'optuna', 'pandas', 'numpy', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert time.monotonic() - started < 10  # generous: a loaded machine; alone it takes 0.3 s


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autotune", "--help"], capture_output=True, text=True, check=False
    )
    assert "quickstart" in done.stdout
