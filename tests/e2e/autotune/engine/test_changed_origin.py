"""A sweep goes on with the data and the base model that it began with, or says what changed."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from safetensors.numpy import load_file, save_file

from autotune.export.run_folder import export_run
from autotune.probe.runner import plan_probe, run_probe
from autotune.results.sweep_tables import read_tables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from tests.support.exported_runs import script_of
from tests.support.sweeps import SPACE, Watcher, fake_run, small_sweep

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path) -> Sweep:
    """A sweep whose data and models are the test's own."""
    shutil.copytree(reviews, tmp_path / "data")
    model = shutil.copytree(tiny_model("bert"), tmp_path / "model")
    return small_sweep(model, tmp_path / "data", budget={"trials": 2}, confirm={"seeds": 0})


def with_trials(sweep: Sweep, trials: int) -> Sweep:
    return sweep.model_copy(update={"budget": sweep.budget.model_copy(update={"trials": trials})})


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return str(caught.value)


def cut_to_a_fifth_with_other_labels(sweep: Sweep) -> None:
    path = Path(sweep.task.train)
    head, *lines = path.read_text().splitlines()
    lines = [line[:-1] + "ab"[int(line[-1])] for line in lines[:48]]
    path.write_text("\n".join([head, *lines]) + "\n")
    for name in ("validation", "test"):
        path = Path(getattr(sweep.task, name))
        head, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, *(line[:-1] + "ab"[int(line[-1])] for line in lines)]) + "\n")


def change_weights(folder: str) -> None:
    path = Path(folder) / "model.safetensors"
    values = load_file(path)
    name = next(name for name in values if name.endswith("query.weight"))
    save_file({**values, name: values[name] * np.float32(1.01)}, path, metadata={"format": "pt"})


def test_every_command_that_goes_on_refuses_changed_data(sweep, tmp_path):
    results = fake_run(sweep, tmp_path / "out")
    before = (tmp_path / "out" / "sweep.yaml").read_text()
    cut_to_a_fifth_with_other_labels(sweep)
    acts = [
        lambda: fake_run(with_trials(sweep, 4), tmp_path / "out"),
        lambda: run_probe(results, plan_probe(results)),
        lambda: export_run(results, "0", [], tmp_path / "run"),
    ]
    for act in acts:
        message = refusal(act)
        assert message.startswith("task: the data changed since the sweep began: ")
        assert "train has 48 rows and had 240; the labels of train are {a, b} and were {0, 1}" in message
        assert "the labels of test are {a, b} and were {0, 1}" in message
        assert "Restore the data, or run a new sweep with --out and another folder." in message
    assert (tmp_path / "out" / "sweep.yaml").read_text() == before
    assert len(read_tables(tmp_path / "out").trials) == 2
    assert not (tmp_path / "run").exists()


def test_what_was_said_about_the_data_is_kept_for_the_report(sweep, tmp_path):
    """Also what the task, the searched lengths and the rungs of the ladder cut."""
    space = {**SPACE, "parameters": {**SPACE["parameters"], "sequence_length": [10, 12]}}
    cut = small_sweep(
        Path(sweep.model.name),
        Path(sweep.task.train).parent,
        task={**sweep.task.model_dump(exclude_none=True), "max_length": 12},
        space=space,
        ladder={"of": "length", "min": 0.5},
        budget={"trials": 2},
        confirm={"seeds": 0},
    )
    watcher = Watcher()
    fake_run(cut, tmp_path / "out", watcher)
    notes = read_tables(tmp_path / "out").notes
    assert set(notes) <= set(watcher.notes)
    assert any(
        re.match(r"(warning: )?\d+ of 240 training examples are cut at 12 tokens", note) for note in notes
    )
    assert any(note.startswith("sequence_length cuts training examples, of 240: ") for note in notes)
    assert any(note.startswith("the ladder cuts training examples, of 240: ") for note in notes)


def test_a_changed_model_is_refused(sweep, tmp_path):
    fake_run(sweep, tmp_path / "out")
    change_weights(sweep.model.name)
    message = refusal(lambda: fake_run(with_trials(sweep, 4), tmp_path / "out"))
    assert message.startswith("model: the base model changed since the sweep began: the weights changed.")


def test_a_changed_base_of_the_ladder_is_refused(sweep, deep_model, tmp_path):
    base = sweep.model.name
    ladder = {"of": "base", "bases": [base]}
    data = Path(sweep.task.train).parent
    laddered = small_sweep(deep_model, data, budget={"trials": 2}, confirm={"seeds": 0}, ladder=ladder)
    fake_run(laddered, tmp_path / "out")
    change_weights(base)
    message = refusal(lambda: fake_run(with_trials(laddered, 3), tmp_path / "out"))
    assert message.startswith(
        f"ladder.bases[0]: {base!r} changed since the sweep began: the weights changed."
    )


def test_the_same_rows_and_weights_in_another_place_are_the_same(sweep, tmp_path):
    fake_run(sweep, tmp_path / "out")
    data, model = tmp_path / "moved" / "data", tmp_path / "moved" / "model"
    shutil.move(Path(sweep.task.train).parent, data)
    shutil.move(sweep.model.name, model)
    moved = small_sweep(model, data, budget={"trials": 3}, confirm={"seeds": 0})
    assert len(fake_run(moved, tmp_path / "out").trials) == 3
    cut_to_a_fifth_with_other_labels(moved)
    assert "had 240" in refusal(lambda: fake_run(with_trials(moved, 4), tmp_path / "out"))


def test_a_folder_without_a_fingerprint_takes_the_present_one_and_says_so(sweep, tmp_path):
    fake_run(sweep, tmp_path / "out")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    study = optuna.load_study(study_name="small", storage=storage)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM study_user_attributes WHERE key = 'fingerprint'")
    assert "fingerprint" not in study.user_attrs
    notes: list[list[str]] = []
    for trials in (3, 4):
        watcher = Watcher()
        fake_run(with_trials(sweep, trials), tmp_path / "out", watcher)
        notes.append([note for note in watcher.notes if "does not say which data" in note])
    assert [len(found) for found in notes] == [1, 0]
    cut_to_a_fifth_with_other_labels(sweep)
    assert "had 240" in refusal(lambda: fake_run(with_trials(sweep, 5), tmp_path / "out"))


def test_an_exported_run_refuses_changed_data_unless_it_is_meant(sweep, tmp_path, monkeypatch, capsys):
    """The splits that were carved are written beside the script, as the search read them."""
    task = {**sweep.task.model_dump(exclude_none=True), "test": None}
    carved = small_sweep(
        Path(sweep.model.name),
        Path(sweep.task.train).parent,
        task=task,
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    run = export_run(fake_run(carved, tmp_path / "out"), "0", [], tmp_path / "run")
    stored = json.loads((run / "run.json").read_text())["fingerprint"]
    assert {name: split["rows"] for name, split in stored.items()} == {
        "train": 204,
        "validation": 120,
        "test": 36,
    }
    script = script_of(run, monkeypatch)
    assert script.data_changes() == []
    given = Path(carved.task.validation)
    text = given.read_text()
    given.write_text(text.replace("\t0\n", "\ta\n").replace("\t1\n", "\tb\n"))
    script.read_split.cache_clear()
    assert script.data_changes() == ["the labels of validation are {a, b} and were {0, 1}"]
    given.write_text(text)
    more = run / "data" / "train.jsonl"
    more.write_text(more.read_text() * 2)
    script.read_split.cache_clear()
    assert script.data_changes() == ["train has 408 rows and had 204"]
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit, match="--changed-data"):
        script.main()
    assert "the data changed since the search: train has 408 rows and had 204" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["train.py", "--changed-data"])
    monkeypatch.setattr(script, "make_trainer", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it gets as far as the training
        script.main()


def test_an_exported_run_refuses_a_changed_base_model_unless_it_is_meant(
    sweep, tmp_path, monkeypatch, capsys
):
    results = fake_run(sweep, tmp_path / "out")
    folder = Path(sweep.model.name)
    script = script_of(export_run(results, "0", [], tmp_path / "run"), monkeypatch)
    assert script.base_changes() == []
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    change_weights(str(folder))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["eos_token"] = "film"
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    script = script_of(tmp_path / "run", monkeypatch)
    assert script.base_changes() == [
        "the configuration changed (config.json)",
        "the weights changed",
        "the tokenizer's eos_token is 'film' and was '[SEP]'",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit, match="Restore the base model, or train"):
        script.main()
    assert "the base model changed since the search: the configuration changed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["train.py", "--changed-data"])
    monkeypatch.setattr(script, "load_model", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it gets as far as the training
        script.main()
