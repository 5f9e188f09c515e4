"""Hidden states of frozen layers on disk: those that do not fit into memory, and those of earlier processes.

    ROOT/BASE/LAYERS/NAME.safetensors

A file (a shard) holds the states of many examples after a number of layers, without padding: `states` of shape
[tokens, width], `keys` of shape [examples, 16], the digests of the tokenized examples, and `lengths` of shape
[examples]. BASE is the digest of everything that determines the numbers: the base model's weights and configuration,
the precision, the kind of device and the versions. So only states are read that this process would compute itself.
There is no pickle: reading runs no code.

A shard is written atomically, and an unreadable one is skipped. When the limit is reached, the least recently used
shards are deleted, but none that this process uses. States that do not fit beside those are not written, because each
epoch would then delete what the next one needs.

The store must save time. A shard records how long its states took to compute. Once reading has taken longer than
that, this process stops using the disk; likewise, it stops writing once that has taken longer than computing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from search_spaces.errors import InvalidInputError, Problem
from trials.base.model import Base
from trials.reading.encoding import NO_INPUTS, Encoded

_log = logging.getLogger(__name__)

VARIABLE = "AUTOTUNE_PREFIX_CACHE"
"""The environment variable with the limit: a size such as 4GiB, or 0 to keep nothing on disk."""
LIMIT = "4GiB"
"""The limit if the variable is not set."""
SHARD = 32 * 2**20
"""The bytes of states that are written together."""

_SPARE = 2**30
"""The bytes of the disk that always stay free."""
_STALE = 3600.0
"""Seconds after which a temporary file is considered abandoned."""
_TRIED = 16
"""Number of reads before their time is compared with that of computing."""
_ENDING = ".safetensors"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024 ** (n + 1) for n, unit in enumerate("kmgt")}


@dataclass
class _Shard:
    path: Path
    states: Any
    """The lazy slice of safetensors that rows are read from."""
    seconds: float
    """The time per token that computing the states took."""


class PrefixStore:
    """Hidden states on disk, by number of layers and example; see the top of this file.

    Args:
        root: The folder of all base models.
        limit: The maximum number of bytes of all shards below it.
        base: Returns the digest of the base model; called when it is first needed.
        device: The device that states are read to.
    """

    def __init__(self, root: Path, limit: int, base: Callable[[], str], device: torch.device) -> None:
        self.root, self.limit, self.device = root, limit, device
        self.reading = self.writing = True
        self._base_digest = base
        self._found: dict[int, dict[bytes, tuple[_Shard, int, int]]] = {}
        self._waiting: dict[int, dict[bytes, torch.Tensor]] = {}
        self._seconds: dict[int, float] = {}
        self._mine: set[Path] = set()
        self._reads, self._spent, self._saved = 0, 0.0, 0.0

    @cached_property
    def folder(self) -> Path:
        """The folder of this base model."""
        return self.root / self._base_digest()

    @cached_property
    def levels(self) -> frozenset[int]:
        """The numbers of layers with states of earlier processes."""
        with contextlib.suppress(OSError):
            return frozenset(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
        return frozenset()

    def has(self, example: Encoded, layers: int) -> bool:
        """Return whether `read` would return the example."""
        key = example_key(example)
        return self.reading and (key in self._index(layers) or key in self._waiting.get(layers, ()))

    def read(self, examples: Sequence[Encoded], layers: int) -> dict[int, torch.Tensor]:
        """Return the stored states among those of `examples`, shape [tokens, width], by the example's `id`."""
        if not self.reading or not examples:
            return {}
        index, waiting = self._index(layers), self._waiting.get(layers, {})
        tick = time.perf_counter()
        rows: dict[int, torch.Tensor] = {}
        for example in examples:
            key = example_key(example)
            if key in waiting:
                rows[id(example)] = waiting[key]
            elif (place := index.get(key)) is not None:
                self._read_row(example, place, index, rows)
        if rows and self.device.type != "cpu":
            sizes = [len(row) for row in rows.values()]
            rows = dict(zip(rows, torch.cat(list(rows.values())).to(self.device).split(sizes), strict=True))
            synchronize(self.device)
        self._spent += time.perf_counter() - tick
        self._reads += bool(rows)
        if self._reads >= _TRIED and self._spent > self._saved:
            self.reading = self.writing = False
            _log.info("hidden states are computed again: reading them from %s takes longer", self.root)
        return rows

    def _read_row(
        self,
        example: Encoded,
        place: tuple[_Shard, int, int],
        index: dict[bytes, tuple[_Shard, int, int]],
        rows: dict[int, torch.Tensor],
    ) -> None:
        shard, start, stop = place
        try:
            with torch.inference_mode(False):  # training may use the states later
                rows[id(example)] = shard.states[start:stop]
        except _UNREADABLE:
            index.pop(example_key(example))
            return
        self._saved += shard.seconds * (stop - start)
        if shard.path not in self._mine:
            self._mine.add(shard.path)
            with contextlib.suppress(OSError):  # another process deleted it; the open file stays valid
                os.utime(shard.path)

    def add(
        self, examples: Sequence[Encoded], states: Sequence[torch.Tensor], layers: int, seconds: float
    ) -> None:
        """Keep computed states, and write them once they fill a shard.

        Args:
            examples: The encoded examples.
            states: Their states, each of shape [tokens, width].
            layers: The number of layers.
            seconds: The wall time of computing them, in seconds.
        """
        if not self.writing:
            return
        waiting, index = self._waiting.setdefault(layers, {}), self._index(layers)
        for example, rows in zip(examples, states, strict=True):
            if (key := example_key(example)) not in index:
                waiting[key] = rows.detach().to("cpu", copy=True)
        self._seconds[layers] = self._seconds.get(layers, 0.0) + seconds
        if sum(rows.nbytes for rows in waiting.values()) >= min(SHARD, self.limit // 8):
            self._write(layers)

    def flush(self) -> None:
        """Write all pending states."""
        for layers in list(self._waiting):
            self._write(layers)

    def _index(self, layers: int) -> dict[bytes, tuple[_Shard, int, int]]:
        """Return the location of each example's states; the disk is listed once, then updated with own shards."""
        if layers not in self._found:
            self._found[layers] = {}
            for path in sorted((self.folder / str(layers)).glob(f"*{_ENDING}")):
                self._open(path, layers)
        return self._found[layers]

    def _open(self, path: Path, layers: int) -> None:
        try:
            file = safe_open(path, framework="pt")
            shard = _Shard(path, file.get_slice("states"), float(file.metadata()["seconds"]))
            keys = file.get_tensor("keys").numpy()
            ends = file.get_tensor("lengths").cumsum(0).tolist()
            if len(ends) != len(keys) or ends[-1] != shard.states.get_shape()[0]:
                raise ValueError(f"{path} lists other examples than it holds")
        except _UNREADABLE as error:
            _log.info("%s is skipped: %s", path, error)
            return
        for key, start, stop in zip(keys, [0, *ends], ends, strict=False):
            self._found[layers][key.tobytes()] = (shard, start, stop)

    def _write(self, layers: int) -> None:
        waiting, seconds = self._waiting.pop(layers, {}), self._seconds.pop(layers, 0.0)
        if not waiting or not self.writing:
            return
        tick = time.perf_counter()
        path = self.folder / str(layers) / f"{uuid.uuid4().hex}{_ENDING}"
        draft = path.with_name(f".{path.name}.tmp")
        tensors = {
            "states": torch.cat(list(waiting.values())),
            "keys": torch.tensor([list(key) for key in waiting], dtype=torch.uint8),
            "lengths": torch.tensor([len(rows) for rows in waiting.values()]),
        }
        if not self._make_room(sum(tensor.nbytes for tensor in tensors.values())):
            return
        about = {"seconds": repr(seconds / len(tensors["states"]))}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, draft, metadata=about)
            os.replace(draft, path)
        except (OSError, SafetensorError) as error:
            self.writing = False
            _log.warning("hidden states are kept in memory only: %s", error)
            return
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        self._mine.add(path)
        self._open(path, layers)
        if time.perf_counter() - tick > seconds:
            self.writing = False
            _log.info("hidden states stay in memory: writing them to %s takes longer", self.root)

    def _make_room(self, size: int) -> bool:
        """Delete the least recently used shards of others, and return whether `size` bytes fit then."""
        shards = []
        with contextlib.suppress(OSError):
            for path in self.root.rglob(f"*{_ENDING}*"):
                stat = path.stat()
                if path.suffix == ".tmp" and time.time() - stat.st_mtime > _STALE:
                    path.unlink(missing_ok=True)
                elif path.suffix == _ENDING:
                    shards.append((stat.st_mtime, path, stat.st_size))
        over = sum(held for _, _, held in shards) + size + 2**12 - self.limit
        for _, path, held in sorted(shards):
            if over > 0 and path not in self._mine:
                with contextlib.suppress(OSError):
                    path.unlink()
                    over -= held
                    path.parent.rmdir()  # fails while it is not empty
                    path.parent.parent.rmdir()
        return over <= 0 and _free(self.root) - size >= _SPARE


def store_for(base: Base) -> PrefixStore | None:
    """Return the store of a base model in the user's cache folder, or None if AUTOTUNE_PREFIX_CACHE is 0.

    Raises:
        InvalidInputError: The variable is not a size.
    """
    limit = parse_size(os.environ.get(VARIABLE, LIMIT))
    if not limit:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return PrefixStore(cache / "autotune" / "prefixes", limit, lambda: base_digest(base), base.device)


def parse_size(text: str) -> int:
    """Return the bytes of a number with a unit, such as 4GiB, 500 MB or 0.

    Raises:
        InvalidInputError: The text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise InvalidInputError(Problem(VARIABLE, f"{text!r} is not a size", "Write one such as 4GiB, or 0."))
    return int(float(found[1]) * _UNITS[found[2]])


def example_key(example: Encoded) -> bytes:
    """Return the digest of what the layers read of an example, 16 bytes."""
    read = {name: value for name, value in sorted(example.items()) if name not in NO_INPUTS}
    return hashlib.blake2b(json.dumps(read, default=_array_digest).encode(), digest_size=16).digest()


def _array_digest(array: NDArray[Any]) -> str:
    return f"{array.shape} {hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()}"


_ABOUT_THE_HEAD = ("_name_or_path", "architectures", "id2label", "label2id", "problem_type", "num_labels")


def base_digest(base: Base) -> str:
    """Return the digest of everything that determines hidden states except the example and the number of layers.

    The head is not part of it: if the model has none, every process initializes another one.
    """
    config = base.model.config.to_dict()  # type: ignore[operator, union-attr]
    about = {name: value for name, value in config.items() if name not in _ABOUT_THE_HEAD}
    about["attention"] = getattr(base.model.config, "_attn_implementation", None)
    about["computed"] = [
        base.products,
        str(base.autocast),
        base.device.type,
        torch.__version__,
        transformers.__version__,
    ]
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=16)
    for name, tensor in _body(base.model, base.shape.head_modules):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _body(model: nn.Module, heads: Collection[str]) -> list[tuple[str, torch.Tensor]]:
    inside = tuple(f"{name}." for name in heads)
    state = model.state_dict()
    return [
        (n, x) for n, x in sorted(state.items()) if isinstance(x, torch.Tensor) and not n.startswith(inside)
    ]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, so that the work can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
