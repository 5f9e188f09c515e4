"""Fingerprints of rows: whether a split still holds what it held when it was first read.

A fingerprint depends on the values alone. The place and the format of the file, its line ends, the order of keys in a
chat's messages and the way in which a number is written (`1`, `1.0`) leave it as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .images import image_digest
from .labels import is_number_text, label_text
from .tables.rows import Rows

_DIGEST = 16
"""Bytes of a digest: enough that equal digests mean equal content."""
_MOST_LABELS = 20
"""The labels of a column with more different values are not listed."""

Fingerprint = dict[str, Any]
"""Plain data, as it is stored: `rows` (their number), `columns` (a digest of each), `set` (a digest of the rows that
does not depend on their order) and, for a few classes, `labels`."""


def split_fingerprint(rows: Rows, columns: Sequence[str], task: Mapping[str, Any]) -> Fingerprint:
    """Return the fingerprint of a split.

    Args:
        rows: The rows of the split, whose labels may be as the file has them, or as classes or numbers.
        columns: The columns that the task reads.
        task: The fields of the task's spec.

    Example:
        >>> task = {"type": "sequence-classification", "label": "y"}
        >>> split_fingerprint(Rows({"text": ["a", "b"], "y": [0, 1]}), ["text", "y"], task)["labels"]
        ['0', '1']
    """
    label = task["label"]
    if label is not None:
        read = _as_number if task["type"] == "regression" else _class_name
        labels = [read(value) for value in rows[label]]
        if task["type"] == "multi-label-classification":
            labels = [sorted(set(each)) for each in labels]
        rows = rows.with_column(label, labels)
    if image := task.get("image"):
        rows = rows.with_column(image, [image_digest(value).hex() for value in rows[image]])
    digests = {name: hashlib.blake2b(digest_size=_DIGEST) for name in columns}
    whole = list[bytes]()
    for values in zip(*(rows[name] for name in columns), strict=True):
        texts = [_canonical(value) for value in values]
        for digest, text in zip(digests.values(), texts, strict=True):
            digest.update(text + b"\n")
        whole.append(hashlib.blake2b(b"\t".join(texts), digest_size=_DIGEST).digest())
    found: Fingerprint = {
        "rows": len(rows),
        "columns": {name: digest.hexdigest() for name, digest in digests.items()},
        "set": hashlib.blake2b(b"".join(sorted(whole)), digest_size=_DIGEST).hexdigest(),
    }
    if label is not None and task["type"] != "regression":
        names = {each for value in rows[label] for each in (value if isinstance(value, list) else [value])}
        if len(names) <= _MOST_LABELS:
            found["labels"] = sorted(names)
    return found


def split_changes(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what changed in a split between two fingerprints, in clauses; empty if nothing did."""
    found = []
    if before["rows"] != now["rows"]:
        found.append(f"{name} has {now['rows']:,} rows and had {before['rows']:,}")
    was, present = before.get("labels"), now.get("labels")
    if was is not None and present is not None and was != present:
        found.append(f"the labels of {name} are {_listed(present)} and were {_listed(was)}")
    columns, others = before["columns"], now["columns"]
    if found or columns == others:
        return found
    if before["set"] == now["set"]:
        return [f"the rows of {name} are in another order"]
    changed = [column for column in columns if columns[column] != others.get(column)]
    changed += [column for column in others if column not in columns]
    return [f"the values of {', '.join(map(repr, changed))} in {name} changed"]


def _listed(labels: Sequence[str]) -> str:
    return "{" + ", ".join(labels) + "}"


def _class_name(value: Any) -> Any:
    """Return the text by which a class is known, whatever its type and however true and false are written.

    A list of classes is a list of such texts.
    """
    if isinstance(value, list | tuple):
        return [_class_name(item) for item in value]
    text = label_text(value)
    return text.lower() if text.lower() in ("true", "false") else text


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and is_number_text(value) else value


def _canonical(value: Any) -> bytes:
    """Return a text without line breaks that is equal for equal values, on every machine."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, float):
        # A table may hold whole numbers as floats. json writes the shortest text that reads as the same number.
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        # A typed table fills up the keys that a message lacks.
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    return _plain(value.item()) if hasattr(value, "item") else str(value)
