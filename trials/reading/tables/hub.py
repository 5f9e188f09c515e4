"""Reading of what the library `datasets` stores: data sets of the hub, and folders that it has saved."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError, first_line
from .parquet import decoded, without_absent_keys
from .rows import Places, Rows

if TYPE_CHECKING:
    from datasets import Dataset


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by `save_to_disk` of datasets."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def is_hub_copy(folder: Path) -> bool:
    """Return whether a folder is a copy of a data set of the hub whose README says which files are its splits."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return text.startswith("---") and "\nconfigs:" in text.partition("\n---")[0]


def split_names(source: Mapping[str, Any]) -> list[str]:
    """Return the names of the splits of a data set, given by `disk`, or by the arguments of `load_dataset`.

    Raises:
        DataError: It cannot be read.
    """
    from datasets import get_dataset_split_names

    if "disk" in source:
        saved = _load(source)
        return list(saved) if isinstance(saved, dict) else ["train"]
    try:
        with _cache() as (options, _):
            return list(get_dataset_split_names(source["path"], source.get("name"), **options))
    except Exception as error:
        raise _unreadable(source, error) from error


def read_split(source: Mapping[str, Any]) -> Rows:
    """Read a split of a data set.

    Args:
        source: `disk`, a folder that `save_to_disk` wrote, and `split`; or the arguments of `load_dataset`.

    Raises:
        DataError: It cannot be read.
    """
    if "disk" in source:
        saved = _load(source)
        if isinstance(saved, dict):
            if source["split"] not in saved:
                raise DataError(
                    f"{source['disk']!r} has no split {source['split']!r}", f"Use one of: {', '.join(saved)}."
                )
            saved = saved[source["split"]]
        return _rows(saved, source, ())
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    arguments = {key: source[key] for key in ("path", "name", "split", "revision") if key in source}
    try:
        with _cache() as (options, notes):
            return _rows(load_dataset(**arguments, **options), source, notes)
    except Exception as error:
        raise _unreadable(source, error) from error


def _rows(table: Dataset, source: Mapping[str, Any], notes: tuple[str, ...]) -> Rows:
    split, image = source["split"], source.get("image_column")
    table = table.with_format(None)
    if image in table.features and hasattr(table.features[image], "decode_example"):
        from datasets import Image

        table = table.cast_column(image, Image(decode=False))
        pictures = {image: table[image][:]}
        table = table.remove_columns(image)
    else:
        pictures = {}
    # Other images and sounds would be decoded, which needs further packages; no task reads them.
    names = [name for name, feature in table.features.items() if not hasattr(feature, "decode_example")]
    found = [*notes]
    columns = {name: _column(table[name][:], name, split, found) for name in names} | pictures
    # A ClassLabel, or lists of it, whose values are numbers.
    labels = {name: getattr(feature, "feature", feature) for name, feature in table.features.items()}
    classes = {name: tuple(label.names) for name, label in labels.items() if hasattr(label, "int2str")}
    return Rows(columns, Places("row", range(1, len(table) + 1), split), tuple(found), classes)


def _column(values: list[Any], column: str, split: str, notes: list[str]) -> Sequence[Any]:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, bytes):
        return decoded(values, column, split, notes)
    return [without_absent_keys(value) for value in values] if isinstance(first, dict | list) else values


def _load(source: Mapping[str, Any]) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(source["disk"])
    except Exception as error:
        raise _unreadable({"path": source["disk"], "split": source.get("split")}, error) from error


def _unreadable(source: Mapping[str, Any], error: Exception) -> DataError:
    split = f"the split {source['split']!r} of " if source.get("split") else ""
    return DataError(
        f"cannot read {split}{source.get('path') or source.get('disk')!r} ({first_line(error)})",
        "Give a hub id, or a folder of data files, and the name of one of its splits.",
    )


@contextmanager
def _cache() -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Yield the arguments of datasets for a cache that is writable, the usual or a temporary one, and notes."""
    from datasets import DownloadConfig, config
    from huggingface_hub import constants

    usual, downloads = Path(config.HF_DATASETS_CACHE), constants.HF_HUB_CACHE
    if _is_writable(usual):
        yield {}, ()
        return
    note = (
        f"the cache of datasets, {str(usual)!r}, is not writable and a temporary folder is used; "
        "set HF_HOME to a folder that is writable to keep what is downloaded"
    )
    with tempfile.TemporaryDirectory(prefix="autotune-datasets-", ignore_cleanup_errors=True) as folder:
        if not Path(downloads).is_dir():  # one that can only be read may hold the data
            constants.HF_HUB_CACHE = f"{folder}/hub"
        try:
            options = DownloadConfig(cache_dir=f"{folder}/downloads")
            yield {"cache_dir": folder, "download_config": options}, (note,)
        finally:
            constants.HF_HUB_CACHE = downloads


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
