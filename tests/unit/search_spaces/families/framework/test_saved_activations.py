"""What the parts of composite adapters keep for their backward pass."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest

from search_spaces.families.framework.composite_family import LayerState, PartCost, PlannedPart
from search_spaces.families.framework.saved_activations import SavedActivations, combine
from search_spaces.model.shape import ModelShape


@dataclass(frozen=True)
class _PartWithoutMemory(PlannedPart):
    """A part that says everything but what it keeps."""

    kind = "without-memory"

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset()

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        return PartCost(0)

    def targets(self, shape: ModelShape) -> str:
        return ""


def test_a_part_that_does_not_declare_its_memory_cannot_be_planned() -> None:
    part: Any = _PartWithoutMemory
    with pytest.raises(TypeError, match="saved"):
        part((0,))


def test_every_part_declares_its_memory() -> None:
    def concrete(kind: type[PlannedPart]) -> list[type[PlannedPart]]:
        own = [] if inspect.isabstract(kind) else [kind]
        return own + [below for sub in kind.__subclasses__() for below in concrete(sub)]

    kinds = {kind.kind for kind in concrete(PlannedPart)}
    assert kinds >= {
        "serial", "parallel", "compacter", "low_rank", "rescale", "scale_shift", "bias", "copy", "prefix",
    }  # fmt: skip


def test_shared_tensors_are_kept_once_and_own_numbers_added() -> None:
    one = SavedActivations(frozenset({"hidden"}), 2.0, 10.0)
    other = SavedActivations(frozenset({"hidden", "mixed"}), 3.0)
    assert combine([one, other]) == SavedActivations(frozenset({"hidden", "mixed"}), 5.0, 10.0)
    assert combine([]) == SavedActivations()
