"""The roles of matrices with unknown names, from their sizes, from who reads the same tensor and from the calls.

The matrices of one module are a block. Its last matrix that writes hidden states is its output, and those that read
hidden states before are its inputs. One input as wide as what the output reads is that of a feed-forward network, and
one twice as wide holds its gate too; another width is that of queries, keys and values in one matrix. Two inputs of
the same width are a gate and what it multiplies. Three that read the same tensor are queries, keys and values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.model.call_order import Calls
from search_spaces.model.module_names import is_expert, is_in_attention
from search_spaces.model.parts import Matrix, Role

if TYPE_CHECKING:
    from torch import nn


def matrices_by_use(
    layer: nn.Module, calls: Calls, width: int, known: Collection[str], stack: int
) -> list[Matrix]:
    """Return the matrices of a layer that are found by their use, in blocks without a matrix of a known name.

    Args:
        layer: the layer.
        calls: the first calls of its modules, by path below it; without them nothing is found.
        width: hidden size of the model.
        known: names of the matrices that are found by their names.
        stack: 1 for the decoder of an encoder-decoder, else 0.
    """
    from torch import nn

    blocks: dict[str, list[tuple[str, Any]]] = {}
    for name in sorted(calls.order, key=calls.order.__getitem__):
        module = layer.get_submodule(name)
        if type(module) is nn.Linear and not is_expert(name):
            blocks.setdefault(name.rpartition(".")[0], []).append((name, module))
    taken = {name.rpartition(".")[0] for name in known}
    found = []
    for path, linears in blocks.items():
        if path not in taken:
            roles = _roles(linears, calls, width, is_in_attention(path))
            found += [
                Matrix(role, name, m.in_features, m.out_features, m.bias is not None, stack=stack)
                for name, m in linears
                if (role := roles.get(name)) is not None
            ]
    return found


def _roles(
    linears: Sequence[tuple[str, Any]], calls: Calls, width: int, in_attention: bool
) -> dict[str, Role]:
    """Return the roles of the matrices of one block, which are in the order of their calls; none if it is unknown."""
    last = next((i for i in reversed(range(len(linears))) if linears[i][1].out_features == width), 0)
    output, inner = linears[last][0], linears[last][1].in_features
    before = [(name, module) for name, module in linears[:last] if module.in_features == width]
    readers = [(name, module) for name, module in before if calls.reads.get(name) != calls.reads.get(output)]
    sizes = [module.out_features for _, module in readers]
    names = [name for name, _ in readers]
    if len(readers) == 1 and not in_attention and sizes[0] in (inner, 2 * inner):
        return {names[0]: "up" if sizes[0] == inner else "gate_up", output: "down"}
    if len(readers) == 1 and sizes[0] > inner and (sizes[0] - inner) % 2 == 0:
        return {names[0]: "qkv", output: "o"}
    if len(readers) == 2 and not in_attention and sizes == [inner, inner]:
        return {names[0]: "gate", names[1]: "up", output: "down"}
    if len({calls.reads.get(name) for name in names}) == 1:
        return _attention_roles(names, sizes, output)
    return {}


def _attention_roles(names: Sequence[str], sizes: Sequence[int], output: str) -> dict[str, Role]:
    """Return the roles of three matrices that read one tensor, or of those among more with a letter in their name."""
    letters: dict[str, Role] = {}
    for role in ("q", "k", "v"):
        named = [name for name in names if re.search(rf"(^|[._]){role}($|[._])", name.rpartition(".")[2])]
        if len(named) == 1:
            letters[named[0]] = role
    if len(letters) == 3:
        return {**letters, output: "o"}
    if len(names) == 3 and sizes[1] == sizes[2]:
        return {names[0]: "q", names[1]: "k", names[2]: "v", output: "o"}
    return {}
