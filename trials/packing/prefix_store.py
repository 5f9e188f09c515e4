"""Hidden states of frozen layers on disk: what memory does not hold, and what an earlier process computed.

    ROOT/BASE/LAYERS/NAME.safetensors

A file (a shard) holds the states of many examples after so many layers, without padding: `states` of shape
[tokens, width], `keys` of shape [examples, 16], the digests of the tokenized examples, and `lengths` of shape
[examples]. BASE is the digest of the base's weights and configuration and of what else decides on the numbers
(precision, kind of device, versions), so that no state is read that this process would not compute. No pickle:
reading runs no code.

A shard appears in one step. One that cannot be read is passed over. When the limit is reached, the shards that were
used least recently go first, and those that this process uses not at all: what does not fit beside them is not
written, since each epoch would push out what the next one needs.

Reading has to pay. A shard says what its states took to compute; once reading has taken longer than that, this
process leaves the disk alone, and likewise writing.
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from search_spaces.errors import InvalidInputError, Problem
from trials.base.model import Base
from trials.tasks.encoding import Encoded

_log = logging.getLogger(__name__)

VARIABLE = "AUTOTUNE_PREFIX_CACHE"
"""The environment variable that sets the limit: a size such as 4GiB, or 0 for nothing on disk."""
LIMIT = "4GiB"
"""The limit where the variable does not say."""
SHARD = 32 * 2**20
"""Bytes of states that are written together."""

_SPARE = 2**30
"""Bytes of the disk that are left free in any case."""
_STALE = 3600.0
"""Seconds after which a draft is nobody's any more."""
_TRIED = 16
"""Reads before it is asked whether they pay."""
_ENDING = ".safetensors"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024 ** (n + 1) for n, unit in enumerate("kmgt")}


@dataclass
class _Shard:
    path: Path
    states: Any
    """What safetensors slices rows from."""
    seconds: float
    """A token, of computing its states."""


class PrefixStore:
    """Checkpoints by layers and example; see the top of this file.

    Args:
        root: the folder of all bases.
        limit: bytes of all shards below it.
        base: the digest of the base; asked for when it is first needed.
        device: where states are read to.
    """

    def __init__(self, root: Path, limit: int, base: Callable[[], str], device: torch.device) -> None:
        self.root, self.limit, self.device = root, limit, device
        self.reading = self.writing = True
        self._base = base
        self._found: dict[int, dict[bytes, tuple[_Shard, int, int]]] = {}
        self._waiting: dict[int, dict[bytes, torch.Tensor]] = {}
        self._seconds: dict[int, float] = {}
        self._mine: set[Path] = set()
        self._reads, self._spent, self._saved = 0, 0.0, 0.0

    @cached_property
    def folder(self) -> Path:
        """Of this base."""
        return self.root / self._base()

    @cached_property
    def levels(self) -> frozenset[int]:
        """The numbers of layers that an earlier process left states of."""
        with contextlib.suppress(OSError):
            return frozenset(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
        return frozenset()

    def has(self, example: Encoded, layers: int) -> bool:
        """Whether `read` would find the example."""
        key = example_key(example)
        return self.reading and (key in self._index(layers) or key in self._waiting.get(layers, ()))

    def read(self, examples: Sequence[Encoded], layers: int) -> dict[int, torch.Tensor]:
        """The states of those examples that are there, shape [tokens, width], by the example's `id`."""
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
            _log.info("hidden states are computed anew: reading them from %s takes longer", self.root)
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
            with torch.inference_mode(False):  # what is read here may be trained on later
                rows[id(example)] = shard.states[start:stop]
        except _UNREADABLE:
            index.pop(example_key(example))
            return
        self._saved += shard.seconds * (stop - start)
        if shard.path not in self._mine:
            self._mine.add(shard.path)
            with contextlib.suppress(OSError):  # another process made room; the open file is still good
                os.utime(shard.path)

    def add(
        self, examples: Sequence[Encoded], states: Sequence[torch.Tensor], layers: int, seconds: float
    ) -> None:
        """Keep what was computed in so many seconds, each of shape [tokens, width]; a full shard is written."""
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
        """Write what waits for its shard to fill."""
        for layers in list(self._waiting):
            self._write(layers)

    def _index(self, layers: int) -> dict[bytes, tuple[_Shard, int, int]]:
        """Where the states of each example lie; the disk is looked at once, then by what this process writes."""
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
                raise ValueError(f"{path} names other examples than it holds")
        except _UNREADABLE as error:
            _log.info("%s is passed over: %s", path, error)
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
            _log.warning("hidden states are kept in memory alone: %s", error)
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
        """Whether so many bytes fit, after what was used least recently is gone."""
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
                    path.parent.rmdir()  # refused while there is more in it
                    path.parent.parent.rmdir()
        return over <= 0 and _free(self.root) - size >= _SPARE


def store_for(base: Base) -> PrefixStore | None:
    """The store of this user for a base, or None where AUTOTUNE_PREFIX_CACHE says 0.

    Raises:
        InvalidInputError: the variable holds no size.
    """
    limit = parse_size(os.environ.get(VARIABLE, LIMIT))
    if not limit:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return PrefixStore(cache / "autotune" / "prefixes", limit, lambda: base_digest(base), base.device)


def parse_size(text: str) -> int:
    """Bytes, from a number with a unit: 4GiB, 500 MB, 0.

    Raises:
        InvalidInputError: it is no such thing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise InvalidInputError(Problem(VARIABLE, f"{text!r} is no size", "Write one such as 4GiB, or 0."))
    return int(float(found[1]) * _UNITS[found[2]])


def example_key(example: Encoded) -> bytes:
    """The digest of what the layers read of an example, 16 bytes."""
    read = {name: value for name, value in sorted(example.items()) if name != "labels"}
    return hashlib.blake2b(json.dumps(read).encode(), digest_size=16).digest()


_ABOUT_THE_HEAD = ("_name_or_path", "architectures", "id2label", "label2id", "problem_type", "num_labels")


def base_digest(base: Base) -> str:
    """The digest of everything that decides on hidden states beside the example and the number of layers.

    The head is left out: where the model brings none, it is drawn anew in every process.
    """
    config = base.model.config.to_dict()  # type: ignore[operator, union-attr]
    about = {name: value for name, value in config.items() if name not in _ABOUT_THE_HEAD}
    about["attention"] = getattr(base.model.config, "_attn_implementation", None)
    dtype = "int8" if base.in_int8 else str(base.autocast)
    about["computed"] = [dtype, base.device.type, torch.__version__, transformers.__version__]
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
    """Wait for what was started, so that its time can be told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
