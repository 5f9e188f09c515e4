"""Where the parts of a base model are that is spread over several devices."""

from __future__ import annotations

from typing import Any

import torch

from search_spaces.errors import InvalidInputError, Problem


def first_device(model: Any) -> torch.device:
    """Return the device that reads the inputs of a model which transformers has placed by a device map.

    accelerate moves hidden states from device to device and the output back to the first.

    Raises:
        InvalidInputError: Weights are on the disk, or on the CPU beside GPUs: they would be copied to a GPU in every
            forward pass and stay there until the backward pass, so nothing would be saved.
    """
    places = set(getattr(model, "hf_device_map", {"": "cpu"}).values())
    away = {place for place in places if str(place) in ("disk", "meta")}
    if len(places) > 1:
        away |= {place for place in places if str(place) == "cpu"}
    if away:
        what = f"the devices have no room for all of the model: parts of it would be on {_listed(away)}"
        fix = "Use more devices, a smaller base model, or weights: nf4."
        raise InvalidInputError(Problem("model.device_map", what, fix))
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _listed(places: set[object]) -> str:
    return " and ".join(sorted(map(str, places)))
