"""The costs of many configurations at once, with equal adapter costs computed once.

The cost of a family reads few values of a configuration, and which ones may depend on earlier reads. The reads of
each new cost are recorded in order in a tree: a node is a parameter name, a branch one of its values, and a leaf a
cost. A configuration that follows the same branches has the same cost. Families, including plugins, need no
declaration; their cost must only be a function of the values that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.families import REGISTRY, AdapterCost, Family, local_config
from search_spaces.families.framework.base import adapter_cost
from search_spaces.families.framework.matrix_family import LayerCost, MatrixFamily
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Value, adapted_layers, layer_switches


@dataclass(frozen=True, eq=False)
class CostTable:
    """The costs of n configurations, as arrays of shape [n]; see `cost_model.Costs` for the columns."""

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
"""Represents a read of the whole configuration; no parameter has this name."""
_NEVER_READ = "learning_rate"
"""The suffix of parameters without influence on cost. Without the exception, families that copy their whole
configuration would have one group per learning rate."""


class AdapterGroups:
    """Groups of configurations of one model with equal adapter cost.

    `costs` has one entry per group, and `read` has the names of all parameters that these costs read.

    Args:
        shape: shape of the model.
        patience: number of configurations of a family after which grouping is evaluated. If fewer than half of
            them shared their cost with an earlier one, the remaining costs are computed individually, which is
            faster, but equal costs are not found and `read` may be incomplete. None to always group.
    """

    def __init__(self, shape: ModelShape, patience: int | None = None) -> None:
        self._patience = patience
        self.costs: list[AdapterCost] = []
        self.read: set[str] = set()
        self._shape = shape
        self._finders: dict[object, Callable[[Mapping[str, Value]], int]] = {}

    def indices(self, configs: Iterable[Mapping[str, Value]]) -> NDArray[np.int64]:
        """Return the group of each configuration as an index into `costs`; new groups are appended.

        Raises:
            ValueError: The family of a configuration is not registered.
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
            raise ValueError(unregistered_message(name))
        family = REGISTRY[str(name)]
        shape = self._shape
        alike = not shape.decoder_depth and shape.repeats == 1 and shape.is_uniform
        if alike and isinstance(family, MatrixFamily) and type(family).cost is MatrixFamily.cost:
            return self._finder_of_matrices(family)
        tree = self._tree(family)
        if self._patience is None:
            return tree.find
        searched = count(1)

        def ungrouped(config: Mapping[str, Value]) -> int:
            return self._add(adapter_cost(family, local_config(family.name, config), self._shape))

        def find(config: Mapping[str, Value]) -> int:
            if next(searched) == self._patience:
                self._finders[name] = ungrouped if 2 * tree.leaves > self._patience else tree.find
            return tree.find(config)

        return find

    def _tree(self, family: Family) -> _Tree:
        return _Tree(
            family.name, lambda reads: self._add(adapter_cost(family, reads, self._shape)), self.read
        )

    def _finder_of_matrices(self, family: MatrixFamily) -> Callable[[Mapping[str, Value]], int]:
        """Return a lookup with separate tables for the adapters of a layer and for the adapted layers."""
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


def unregistered_message(family: object) -> str:
    """Return the error text for a family that is not registered."""
    return f"family: {family!r} is not registered; use one of {', '.join(sorted(REGISTRY))}"


class _Layers:
    """A lookup of the lowest adapted layer and the number of adapted layers of a configuration."""

    def __init__(self, family: str, depth: int) -> None:
        self._depth = depth
        self._count = f"{family}.layers"
        self._range = f"{family}.layers.start", f"{family}.layers.count"
        self._switches = layer_switches(f"{family}.layers", depth)
        self.names = {self._count, *self._range, *self._switches}
        self._known: dict[object, tuple[int, int]] = {}

    def find(self, config: Mapping[str, Value]) -> tuple[int, int]:
        key: object = config.get(self._count)
        if key is None:
            key = tuple(map(config.get, self._range if self._range[1] in config else self._switches))
        if key not in self._known:
            layers = adapted_layers(config, self._count, self._depth)
            self._known[key] = layers[0], len(layers)
        return self._known[key]


class _Tree:
    """A cached function of the parameters of one family, keyed by the values that it reads.

    A leaf is a result of the function. An inner node is the full name of the parameter that the function reads next,
    with one branch per value, including "absent".
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
    """The parameters of one family under their local names, with a record of the reads."""

    def __init__(self, prefix: str, config: Mapping[str, Value]) -> None:
        self.read: dict[str, Any] = {}
        self._prefix = prefix
        self._config = config

    def names(self) -> set[str]:
        """Return the names of all parameters that were read."""
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
    """Return all local names and values, sorted by name, without the learning rate."""
    return tuple(
        sorted(
            (name.removeprefix(prefix), value)
            for name, value in config.items()
            if name.startswith(prefix) and not name.endswith(_NEVER_READ)
        )
    )
