"""Folders of data: which file is of which split."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.reading.tables.errors import DataError
from trials.reading.tables.folders import split_files


def found(folder: Path, *names: str) -> dict[str, list[str]]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\nx\n")
    return {
        split: [path.relative_to(folder).as_posix() for path in paths]
        for split, paths in split_files(folder).items()
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["train.csv", "dev.csv", "test.csv", "README.md", "LICENSE.txt", ".train.csv", "contest.csv"],
            {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["test.csv"]},
        ),
        (
            [f"data/train-0000{i}-of-00011.parquet" for i in (10, 2, 1)] + ["data/validation-00000-of-00001.parquet"],
            {
                "train": [f"data/train-0000{i}-of-00011.parquet" for i in (1, 2, 10)],
                "validation": ["data/validation-00000-of-00001.parquet"],
            },
        ),
        (
            ["TRAIN.TSV", "sst_Valid.tsv", "my-eval2.tsv"],
            {"train": ["TRAIN.TSV"], "validation": ["my-eval2.tsv", "sst_Valid.tsv"]},
        ),
        (
            ["train/b.jsonl", "train/a.jsonl", "test/a.jsonl"],
            {"train": ["train/a.jsonl", "train/b.jsonl"], "test": ["test/a.jsonl"]},
        ),
        (["b.csv", "a.csv"], {"train": ["a.csv", "b.csv"]}),
        (["test.txt"], {"test": ["test.txt"]}),
    ],
)  # fmt: skip
def test_splits_follow_from_names(tmp_path: Path, names: list[str], expected: dict[str, list[str]]) -> None:
    assert found(tmp_path, *names) == expected


@pytest.mark.parametrize(
    "names", [["train.csv", "train.jsonl"], ["train.csv", "train.csv.gz"], ["a/train.csv", "b/train.tsv"]]
)
def test_the_same_data_in_two_formats_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match="may be the same data in two formats"):
        found(tmp_path, *names)


@pytest.mark.parametrize("names", [[], ["README.md", "notes.doc"]])
def test_no_data(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match="has no data files"):
        found(tmp_path, *names)
