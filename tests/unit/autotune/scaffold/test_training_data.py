"""`autotune init` takes what a sweep takes: files, lists of files, folders and data sets, read by the same reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotune.scaffold import training_data
from autotune.scaffold.sweep_file import Scaffold, write_scaffold
from autotune.scaffold.training_data import read_training_data
from autotune.sweep.sweep_file import load_sweep
from search_spaces.errors import InvalidInputError
from trials.data.notes import Notes
from trials.data.sources import read_splits
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

LINES = [f"a film that I saw no. {i}\t{'good' if i % 2 else 'bad'}\n" for i in range(60)]
TSV = "sentence\tlabel\n" + "".join(LINES)


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_positions": 128}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def write(path: Path, text: str = TSV) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def init(model: str, folder: Path, *data: Path) -> tuple[Scaffold, TaskSpec]:
    """Return the sweep file that init writes and the task that a run reads from it."""
    scaffold = write_scaffold(model, data, folder / "sweep.yaml", force=True)
    return scaffold, load_sweep(folder / "sweep.yaml").task


def test_init_and_run_say_the_same_about_a_file(tmp_path: Path, model: str) -> None:
    quoted = TSV.replace("a film that I saw no. 4\t", '"a film that I saw no. 4\t')
    path = tmp_path / "train [1].TSV"
    path.write_bytes(quoted.replace("film", "café").encode("cp1252"))
    scaffold, task = init(model, tmp_path, path)
    notes = Notes()
    splits, _ = read_splits(task, notes)
    assert len(splits["train"]) == 60
    assert len(notes.facts) == 2
    assert set(notes.facts) <= set(scaffold.notes)


def test_several_files(tmp_path: Path, model: str) -> None:
    paths = [write(tmp_path / name) for name in ("b.tsv", "a.tsv")]
    scaffold, task = init(model, tmp_path, *paths)
    assert task.train == tuple(map(str, paths))
    assert "train: [b.tsv, a.tsv]    # 120 rows" in scaffold.text
    assert "# A sweep on b.tsv and 1 more file." in scaffold.text


def test_a_folder(tmp_path: Path, model: str) -> None:
    for name in ("train.tsv", "dev.tsv", "holdout.tsv"):
        write(tmp_path / "data" / name)
    scaffold, task = init(model, tmp_path, tmp_path / "data")
    assert task.train == str(tmp_path / "data")
    notes = Notes()
    assert set(read_splits(task, notes)[0]) == {"train", "validation"}
    assert [note for note in scaffold.notes if "holdout.tsv" in note] == notes.facts != []
    assert "validation: 60 examples of data" in scaffold.notes
    assert "# validation: ...    # for the search; by default 60 rows of data" in scaffold.text


def test_a_text_file(tmp_path: Path, model: str) -> None:
    _, task = init(
        model, tmp_path, write(tmp_path / "lines.txt", "".join(f"this is line {i}\n" for i in range(60)))
    )
    assert (task.type, task.text) == ("causal-lm", ("text",))


def test_a_column_that_turns_into_objects_is_no_label(tmp_path: Path, model: str) -> None:
    rows = [
        {"text": f"film number {i}", "label": i % 2, "extra": {"a": 1} if i > 50 else "x y"}
        for i in range(60)
    ]
    path = write(tmp_path / "late.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    _, task = init(model, tmp_path, path)
    assert (task.text, task.label) == (("text",), "label")


def test_a_data_set_of_the_hub(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows({"text": [line.split("\t")[0] for line in LINES], "label": [0, 1] * 30})

    def sources(named: dict[str, str], dataset: str) -> dict[str, dict[str, str]]:
        return {split: {"path": dataset, "split": named.get(split, split)} for split in ("train", "test")}

    monkeypatch.setattr(training_data, "find_sources", sources)
    monkeypatch.setattr(training_data, "read_source", lambda source: rows)
    _, task = init(model, tmp_path, Path("owner/reviews"))
    assert (task.dataset, task.train, task.label) == ("owner/reviews", "train", "label")


@pytest.mark.parametrize("name", ["owner/no-such-data", "no-such-data"])
def test_a_data_set_that_cannot_be_read(name: str) -> None:
    with pytest.raises(InvalidInputError, match="--data: cannot read"):
        read_training_data([name])


@pytest.mark.parametrize("name", ["none.csv", "data/none.csv", "./none", "a/b/none", "none.doc"])
def test_a_path_is_not_taken_for_a_data_set(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--data: (there is no file|'none\S*' ends in)"):
        read_training_data([name])


def test_files_beside_the_training_file_are_found_in_any_case(tmp_path: Path, model: str) -> None:
    write(tmp_path / "REVIEWS.VALID.TSV")
    _, task = init(model, tmp_path, write(tmp_path / "REVIEWS.TRAIN.TSV"))
    assert task.validation == str(tmp_path / "REVIEWS.VALID.TSV")


def test_a_bad_file_beside_the_training_file_is_named(tmp_path: Path, model: str) -> None:
    write(tmp_path / "test.tsv", "sentence\tlabel\nonly text\n")
    with pytest.raises(InvalidInputError, match=r"line 2 of 'test\.tsv' has 1 field"):
        init(model, tmp_path, write(tmp_path / "train.tsv"))
