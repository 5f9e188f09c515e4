"""A digest of a model's weights in safetensors, without reading all of a large file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WHOLE = 256 * 2**20
"""Bytes of weights up to which all of them are read: a fifth of a second."""
_BLOCK, _BLOCKS = 4096, 3
"""Bytes of a sampled block, and blocks per tensor of larger models: training changes a tensor everywhere."""
_LENGTH = 8
"""Bytes at the start of the file with the length of its header, little-endian."""


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor is: its description, and the first and the last byte plus one in the file."""

    file: Path
    name: str
    kind: str
    begin: int
    end: int


def weights_digest(folder: Path) -> str | None:
    """Return a digest of the tensors of a folder; None if it has no weights in safetensors.

    It depends on the names, types, shapes and content of the tensors, and neither on how they are spread over files
    nor on their order. Weights of more than 256 MB are sampled: the start, middle and end of each tensor.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is not in the format of safetensors.
    """
    tensors = [tensor for path in sorted(folder.glob("*.safetensors")) for tensor in _tensors(path)]
    if not tensors:
        return None
    is_whole = sum(tensor.end - tensor.begin for tensor in tensors) <= _WHOLE
    digests = {tensor.name: _digest(tensor, is_whole=is_whole) for tensor in tensors}
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(f"{name}\n{digests[name]}\n".encode())
    return whole.hexdigest()[:32]


def _tensors(path: Path) -> Iterator[_Tensor]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{str(path)!r} is not a file of safetensors")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (_LENGTH + length + offset for offset in entry["data_offsets"])
            yield _Tensor(path, name, f"{entry['dtype']} {entry['shape']}", begin, end)


def _digest(tensor: _Tensor, *, is_whole: bool) -> str:
    found = hashlib.sha256(tensor.kind.encode())
    size = tensor.end - tensor.begin
    with tensor.file.open("rb") as file:
        if is_whole or size <= _BLOCK * _BLOCKS:
            file.seek(tensor.begin)
            found.update(file.read(size))
        else:
            for place in range(_BLOCKS):
                file.seek(tensor.begin + place * (size - _BLOCK) // (_BLOCKS - 1))
                found.update(file.read(_BLOCK))
    return found.hexdigest()
