"""The costs of many configurations at once: what many have in common is computed once.

A family's cost reads few of a configuration's values, and which ones may depend on those read before. So the
reads of each new cost are noted, in their order, in a tree: a node is a name, a branch one of its values, a
leaf a cost. A configuration that takes the same branches has the same cost. Nothing has to be declared, and a
family from elsewhere is served alike; all it must be is what every cost is, a function of what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.families import REGISTRY, AdapterCost, Family, local_config
from search_spaces.families.framework.matrix_family import LayerCost, MatrixFamily
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Value, adapted_layers, layer_switches


@dataclass(frozen=True, eq=False)
class CostTable:
    """The costs of n configurations, each an array of shape [n] in their order; see `costs.Costs`."""

    trainable_params: NDArray[np.int64]
    head_params: NDArray[np.int64]
    train_flops: NDArray[np.float64]
    inference_flops: NDArray[np.float64]
    stored_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.trainable_params)


_ABSENT: Any = object()
_UNREAD: Any = object()
_WHOLE = ""
"""Stands for a read of the whole configuration; no knob is called so."""
_NEVER_READ = "learning_rate"
"""No adapter costs more for being trained faster, so a family that copies its whole configuration does not
make one group a learning rate."""


class AdapterGroups:
    """Configurations of one model in groups of equal adapter cost.

    `costs` has one entry a group; `read` holds the names of the parameters that any of these costs asked for.

    Args:
        patience: so many costs are looked at before it is asked whether grouping pays. Where fewer than half of
            a family's configurations shared theirs with an earlier one, the rest are computed one by one:
            sooner done, but equal ones are not found and `read` lacks what only they ask for. None for never.
    """

    def __init__(self, shape: ModelShape, patience: int | None = None) -> None:
        self._patience = patience
        self.costs: list[AdapterCost] = []
        self.read: set[str] = set()
        self._shape = shape
        self._finders: dict[Any, Callable[[Mapping[str, Value]], int]] = {}

    def indices(self, configs: Iterable[Mapping[str, Value]]) -> NDArray[np.int64]:
        """The group of each configuration, as an index into `costs`, which grows.

        Raises:
            ValueError: a configuration names no registered family.
        """
        finders = self._finders
        found = []
        for config in configs:
            family = config.get("family")
            find = finders.get(family)
            if find is None:
                find = finders[family] = self._finder(family)
            found.append(find(config))
        return np.array(found, dtype=np.int64)

    def _finder(self, name: object) -> Callable[[Mapping[str, Value]], int]:
        if name not in REGISTRY:
            raise ValueError(unregistered(name))
        family = REGISTRY[str(name)]
        alike = not self._shape.decoder_depth
        if alike and isinstance(family, MatrixFamily) and type(family).cost is MatrixFamily.cost:
            return self._finder_of_matrices(family)
        tree = self._tree(family)
        if self._patience is None:
            return tree.find
        searched = count(1)

        def alone(config: Mapping[str, Value]) -> int:
            return self._add(family.cost(local_config(family.name, config), self._shape))

        def find(config: Mapping[str, Value]) -> int:
            if next(searched) == self._patience:
                self._finders[name] = alone if 2 * tree.leaves > self._patience else tree.find
            return tree.find(config)

        return find

    def _tree(self, family: Family) -> _Tree:
        return _Tree(family.name, lambda reads: self._add(family.cost(reads, self._shape)), self.read)

    def _finder_of_matrices(self, family: MatrixFamily) -> Callable[[Mapping[str, Value]], int]:
        """The adapters of a layer and the layers that have them vary apart, so each is looked up apart."""
        parts: list[LayerCost] = []
        groups: dict[tuple[int, int, int], int] = {}
        depth = self._shape.depth
        layers = _Layers(family.name, depth)
        self.read.update(layers.names)

        def add_part(config: Mapping[str, Value]) -> int:
            parts.append(family.layer_cost(config, self._shape))
            return len(parts) - 1

        tree = _Tree(family.name, add_part, self.read)
        varied, profile = self._tree(family), f"{family.name}.rank.level"

        def find(config: Mapping[str, Value]) -> int:
            if profile in config:
                return varied.find(config)
            lowest, adapted = layers.find(config)
            key = (tree.find(config), lowest, adapted)
            if key not in groups:
                groups[key] = self._add(family.on_layers([(parts[key[0]], adapted)], lowest))
            return groups[key]

        return find

    def _add(self, cost: AdapterCost) -> int:
        self.costs.append(cost)
        return len(self.costs) - 1


def unregistered(family: object) -> str:
    """What to say of a family's name that the registry does not have."""
    return f"family: {family!r} is not registered; use one of {', '.join(sorted(REGISTRY))}"


class _Layers:
    """The lowest adapted layer and the number of adapted layers, by what the configuration says of them."""

    def __init__(self, family: str, depth: int) -> None:
        self._depth = depth
        self._count = f"{family}.layers"
        self._range = f"{family}.layers.start", f"{family}.layers.count"
        self._switches = layer_switches(f"{family}.layers", depth)
        self.names = {self._count, *self._range, *self._switches}
        self._known: dict[Any, tuple[int, int]] = {}

    def find(self, config: Mapping[str, Value]) -> tuple[int, int]:
        key: Any = config.get(self._count)
        if key is None:
            key = tuple(map(config.get, self._range if self._range[1] in config else self._switches))
        if key not in self._known:
            layers = adapted_layers(config, self._count, self._depth)
            self._known[key] = layers[0], len(layers)
        return self._known[key]


class _Tree:
    """A function of one family's knobs, computed once for each way of reading them.

    A leaf is what the function gave. An inner node is the full name of the knob that it reads next and a
    branch for each value, the absent one among them.
    """

    def __init__(self, family: str, function: Callable[[Mapping[str, Value]], int], read: set[str]) -> None:
        self._prefix = f"{family}."
        self._function = function
        self._read = read
        self._top: dict[Any, Any] = {}
        self.leaves = 0

    def find(self, config: Mapping[str, Value]) -> int:
        node = self._top.get(None)
        while node.__class__ is tuple:
            name, branches = node
            node = branches.get(config.get(name, _ABSENT) if name else _whole(self._prefix, config))
        return self._grow(config) if node is None else node

    def _grow(self, config: Mapping[str, Value]) -> int:
        reads = _Reads(self._prefix, config)
        leaf = self._function(reads)
        branches, value = self._top, None
        for name, seen in reads.read.items():
            node = branches.setdefault(value, (name and self._prefix + name, {}))
            branches, value = node[1], seen
        branches[value] = leaf
        self.leaves += 1
        self._read.update(self._prefix + name for name in reads.names())
        return leaf


class _Reads(Mapping[str, Value]):
    """The knobs of one family under their local names, noting what is asked for."""

    def __init__(self, prefix: str, config: Mapping[str, Value]) -> None:
        self.read: dict[str, Any] = {}
        self._prefix = prefix
        self._config = config

    def names(self) -> set[str]:
        """Every knob that was asked for."""
        return {name for name in self.read if name} | {name for name, _ in self.read.get(_WHOLE, ())}

    def get(self, name: str, default: Any = None) -> Any:
        value = self.read.get(name, _UNREAD)
        if value is _UNREAD:
            value = self.read[name] = self._config.get(self._prefix + name, _ABSENT)
        return default if value is _ABSENT else value

    def __getitem__(self, name: str) -> Value:
        value = self.get(name, _ABSENT)
        if value is _ABSENT:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return self.get(str(name), _ABSENT) is not _ABSENT

    def __iter__(self) -> Iterator[str]:
        if _WHOLE not in self.read:
            self.read[_WHOLE] = _whole(self._prefix, self._config)
        return iter([name for name, _ in self.read[_WHOLE]])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _whole(prefix: str, config: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Every local name and value, sorted by name."""
    return tuple(
        sorted(
            (name.removeprefix(prefix), value)
            for name, value in config.items()
            if name.startswith(prefix) and not name.endswith(_NEVER_READ)
        )
    )
