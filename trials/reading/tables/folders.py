"""The data files in a folder, by the split that their names say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .errors import DataError
from .files import data_format

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_NO_DATA = (
    "readme",
    "license",
    "licence",
    "notice",
    "requirements",
    "changelog",
    "dataset_info",
    "dataset_infos",
)


def split_of(name: str) -> str | None:
    """Return the split that a name says: `train-00000-of-00002.parquet` is of train, `dev.tsv` of validation.

    Example:
        >>> split_of("en_dev.tsv"), split_of("train1.csv"), split_of("contest.csv")
        ('validation', 'train', None)
    """
    words = re.findall(r"[a-z]+", name.lower().partition(".")[0])
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the data files of a folder and its folders by split, shards in order.

    A file's own name decides, then those of its folders. If no name says a split, all files are training data.

    Raises:
        DataError: There are none, or a split has files of several formats, which may be the same data twice.
    """
    files = data_files(folder)
    if not files:
        raise DataError(f"{str(folder)!r} has no data files", "Give a folder with files such as train.csv.")
    splits: dict[str, list[Path]] = {}
    for path in files:
        parts = (path.name, *reversed(path.relative_to(folder).parts[:-1]))
        if split := next(filter(None, map(split_of, parts)), None):
            splits.setdefault(split, []).append(path)
    splits = {split: splits[split] for split in _WORDS if split in splits} or {"train": files}
    for split, paths in splits.items():
        _check_formats(split, paths, folder)
    return splits


def data_files(folder: Path) -> list[Path]:
    """Return the data files of a folder and its folders, shards in order, without those of documents."""
    return [
        path for path in sorted(folder.rglob("*"), key=_natural) if _is_data(path.relative_to(folder), path)
    ]


def _is_data(inner: Path, path: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in inner.parts)
    stem = inner.name.lower().partition(".")[0]
    return not hidden and stem not in _NO_DATA and data_format(inner) is not None and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts the numbers in names by their value."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _check_formats(split: str, paths: Sequence[Path], folder: Path) -> None:
    formats = {data_format(path): path for path in paths}
    stems = {str(path.parent / path.name.lower().partition(".")[0]) for path in paths}
    if len(formats) > 1 or len(stems) < len(paths):
        first, second = list(formats.values())[:2] if len(formats) > 1 else paths[:2]
        raise DataError(
            f"the split {split!r} of {str(folder)!r} has {first.name!r} and {second.name!r}, "
            "which may be the same data in two formats",
            "Name the files in the sweep file, or remove one of them.",
        )
