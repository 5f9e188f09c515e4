"""Where the splits of a task are found, and columns that mean the same in all of them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from search_spaces.errors import InvalidInputError
from trials.data.notes import Notes
from trials.data.sources import find_sources, read_splits
from trials.reading.splits import read_source
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec


def task_of(**fields: object) -> TaskSpec:
    return TaskSpec(**{"text": "text", "label": "label", **fields})


def write(path: Path, text: str = "text,label\na,0\nb,1\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(**fields: object) -> tuple[dict[str, Rows], list[str]]:
    """Return the splits and notes, after a check that each split is read the same from its source."""
    notes = Notes()
    splits, sources = read_splits(task_of(**fields), notes)
    for name, source in json.loads(json.dumps(sources)).items():
        assert repr(read_source(source).columns) == repr(splits[name].columns)  # nan is not equal to itself
    return splits, notes.facts


def problems(**fields: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_splits(task_of(**fields), Notes())
    return str(caught.value)


# --- files, lists and folders


def test_a_list_of_files_is_one_split(tmp_path: Path) -> None:
    names = [write(tmp_path / name) for name in ("b.csv", "a.csv")]
    splits, _ = read(train=names, test=names[:1])
    assert (len(splits["train"]), len(splits["test"])) == (4, 2)
    assert splits["train"].place(3) == "line 3 of a.csv"


@pytest.mark.parametrize("field", ["train", "dataset"])
def test_a_folder_gives_the_splits_that_its_files_are_named_for(tmp_path: Path, field: str) -> None:
    for name in ("train-1.csv", "train-0.csv", "dev.csv", "test.csv", "README.md"):
        write(tmp_path / name, f"text,label\n{name},0\n")
    splits, _ = read(**{field: str(tmp_path)})
    assert {name: list(rows["text"]) for name, rows in splits.items()} == {
        "train": ["train-0.csv", "train-1.csv"],
        "validation": ["dev.csv"],
        "test": ["test.csv"],
    }


@pytest.mark.parametrize("field", ["train", "dataset"])
def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path, field: str) -> None:
    folder = tmp_path / "data"
    for name in ("train.csv", "holdout.csv", "more/unsup.jsonl", "README.md"):
        write(folder / name)
    splits, notes = read(**{field: str(folder)})
    assert [*splits] == ["train"]
    assert [note for note in notes if "not read" in note] == [
        "data: 2 data files of the folder not read, since the names say no split that is used: "
        "holdout.csv, more/unsup.jsonl"
    ]


def test_a_folder_whose_files_are_all_read_has_no_note(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name)
    assert not [note for note in read(train=str(tmp_path))[1] if "not read" in note]
    _, notes = read(
        train=write(tmp_path / "train.csv")
    )  # a file that is named says nothing of those beside it
    assert not [note for note in notes if "not read" in note]


def test_named_splits_of_a_folder(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.csv"):
        write(tmp_path / "data" / name, f"text,label\n{name},0\n")
    splits, _ = read(dataset=str(tmp_path / "data"), train="validation", validation="train")
    assert (list(splits["train"]["text"]), list(splits["validation"]["text"])) == (["dev.csv"], ["train.csv"])
    assert "has no split 'unsupervised'. Use one of: train, validation" in problems(
        dataset=str(tmp_path / "data"), train="unsupervised"
    )


def test_a_folder_for_one_split(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv")
    for name in ("a.csv", "b.csv"):
        write(tmp_path / "held out" / name)
    splits, _ = read(train=train, test=str(tmp_path / "held out"))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "test": 4}


def test_a_file_beside_a_folder_takes_the_place_of_its_split(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        write(tmp_path / "data" / name)
    other = write(tmp_path / "other.csv", "text,label\nother,1\n")
    splits, _ = read(train=str(tmp_path / "data"), test=other)
    assert list(splits["test"]["text"]) == ["other"]


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    both = datasets.DatasetDict({"train": table, "test": table.select([1])})
    both.save_to_disk(tmp_path / "both")
    table.save_to_disk(tmp_path / "one")
    for field in ("train", "dataset"):
        splits, _ = read(**{field: str(tmp_path / "both")})
        assert {name: list(rows["text"]) for name, rows in splits.items()} == {
            "train": ["a", "b"],
            "test": ["b"],
        }
        assert splits["train"].place(0) == "row 1 of train"
        splits, _ = read(**{field: str(tmp_path / "one")})
        assert {name: list(rows["label"]) for name, rows in splits.items()} == {"train": [0, 1]}


def test_a_copy_of_a_hub_repository_is_read_by_its_configuration(tmp_path: Path) -> None:
    write(tmp_path / "x" / "part.csv")
    write(tmp_path / "y" / "part.csv", "text,label\nfrom y,1\n")
    files = "configs:\n- config_name: {0}\n  data_files:\n  - split: train\n    path: {0}/*.csv\n"
    write(
        tmp_path / "README.md",
        f"---\n{files.format('x')}{files.format('y').removeprefix('configs:')[1:]}---\n",
    )
    splits, _ = read(dataset=str(tmp_path), dataset_config="y")
    assert list(splits["train"]["text"]) == ["from y"]


def test_slices_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(10)))
    splits, _ = read(dataset=str(tmp_path), train="train[:60%]", test="train[60%:]")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 6, "test": 4}


def test_every_problem_is_reported_with_its_split(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.csv", "text,label\na\n")
    message = problems(train=bad, test=str(tmp_path / "none.csv"))
    assert "task.train: line 2 of 'bad.csv' has 1 field, and the header has 2" in message
    assert "task.test: there is no file" in message
    (tmp_path / "empty").mkdir()
    assert "task.dataset" in problems(dataset=str(tmp_path / "empty"))


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    assert "task.dataset: cannot read 'nobody/such-data'" in problems(dataset="nobody/such-data")


def test_sources_say_where_files_are_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train[1].csv")
    monkeypatch.chdir(tmp_path)
    assert find_sources({"train": "train[1].csv"})["train"] == {"file": str(tmp_path / "train[1].csv")}


# --- columns that mean the same in all splits


def test_texts_of_digits_are_texts(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "text,label\n007,0\n1.50,1\n,0\n")
    test = write(tmp_path / "test.jsonl", '{"text": 12, "label": 0}\n{"text": 1.0, "label": 1}\n')
    splits, notes = read(train=train, test=test)
    assert list(splits["train"]["text"]) == ["007", "1.50", None]
    assert list(splits["test"]["text"]) == ["12", "1"]
    assert notes == ["test.jsonl: 2 numbers in column 'text' read as text"]


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ("0\n1\n", "0\nn/a\n", (["0", "1"], ["0", "n/a"])),  # numbers that another split shows to be names
        ("01\n02\n", "01\n12\n", (["01", "02"], ["01", "12"])),
        ("10\n12\n", "12\n07\n", (["10", "12"], ["12", "07"])),
        ("0\n1\n", "0.0\n1.0\n", ([0, 1], [0.0, 1.0])),  # one class each, by `label_text`
        ("0.5\n1\n", "1\n0.5\n", ([0.5, 1.0], [1.0, 0.5])),
        ("x\ny\n", "y\nx\n", (["x", "y"], ["y", "x"])),
        ("True\nFalse\n", "False\nTrue\n", (["True", "False"], ["False", "True"])),
    ],
)
def test_labels_of_all_splits_agree(
    tmp_path: Path, train: str, test: str, expected: tuple[list[object], list[object]]
) -> None:
    def table(cells: str) -> str:
        return "text,label\n" + "".join(f"t,{cell}\n" for cell in cells.split())

    splits, _ = read(
        train=write(tmp_path / "train.csv", table(train)), test=write(tmp_path / "test.csv", table(test))
    )
    found = tuple(list(splits[name]["label"]) for name in ("train", "test"))
    assert found == expected
    assert [[type(v) for v in labels] for labels in found] == [
        [type(v) for v in labels] for labels in expected
    ]


@pytest.mark.parametrize("label", ['"1"', "1"])
def test_labels_of_files_of_two_formats_agree(tmp_path: Path, label: str) -> None:
    train = write(tmp_path / "train.csv", "text,label\na,0\nb,1\n")
    test = write(tmp_path / "test.jsonl", f'{{"text": "a", "label": {label}}}\n')
    splits, _ = read(train=train, test=test)
    assert splits["test"]["label"][0] in splits["train"]["label"]
