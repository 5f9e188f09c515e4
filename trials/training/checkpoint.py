"""The checkpoint of a training run between two segments: one safetensors file with plain data as JSON in its header.

It holds what training changes and nothing of the base model: the trained parameters of adapter and head, the
optimizer's moments, the family's own state (AdaLoRA's sensitivities), the random generators of dropout, the position
in the schedule and in the data order, and the validation curve so far. The file is replaced atomically, so a process
that dies while writing leaves the previous file intact. There is no pickle: reading a checkpoint runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from search_spaces.families.framework.base import Family
from trials.records import Fidelity, TrialSpec

if TYPE_CHECKING:
    from peft import PeftModel

_HEADER = "run"
_WEIGHTS, _OPTIMIZER, _FAMILY, _RANDOM = "weights", "optimizer", "family", "random"


@dataclass(frozen=True)
class TrainingState:
    """The state that a run resumes from.

    Args:
        run: The run that it belongs to: configuration, seed and fidelity.
        tensors: `weights/NAME` for the trained parameters, `optimizer/INDEX/NAME`, `family/NAME`, and `random/cpu`
            (and that of the device) for the generators.
        scalars: The optimizer's numbers, by index of the parameter and by name.
        rates: The learning rate of each parameter group.
        schedule: The state of the learning-rate schedule.
        progress: The counters and records of the training loop.
    """

    run: dict[str, Any]
    tensors: dict[str, Tensor]
    scalars: dict[str, dict[str, Any]]
    rates: list[float]
    schedule: dict[str, Any]
    progress: dict[str, Any]

    @classmethod
    def of(
        cls,
        spec: TrialSpec,
        model: PeftModel,
        family: Family,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        device: torch.device,
        progress: Mapping[str, Any],
    ) -> TrainingState:
        """Capture the state of a run between two steps."""
        tensors: dict[str, Tensor] = {f"{_WEIGHTS}/{name}": x for name, x in _trained(model).items()}
        scalars: dict[str, dict[str, Any]] = {}
        for index, kept in optimizer.state_dict()["state"].items():
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    tensors[f"{_OPTIMIZER}/{index}/{name}"] = value
                else:
                    scalars.setdefault(str(index), {})[name] = value
        tensors |= {f"{_FAMILY}/{name}": x for name, x in family.training_state(model).items()}
        tensors |= {f"{_RANDOM}/{name}": x for name, x in _generators(device).items()}
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        return cls(_identity(spec), tensors, scalars, rates, schedule.state_dict(), dict(progress))

    def restore(
        self,
        model: PeftModel,
        family: Family,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        device: torch.device,
    ) -> None:
        """Restore the state in a new run of the same spec."""
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(self.tensors[f"{_WEIGHTS}/{name}"])
        state: dict[int, dict[str, Any]] = {int(i): dict(kept) for i, kept in self.scalars.items()}
        for name, tensor in self._under(_OPTIMIZER).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        rated = [{**group, "lr": rate} for group, rate in zip(groups, self.rates, strict=True)]
        optimizer.load_state_dict({"state": state, "param_groups": rated})
        schedule.load_state_dict(dict(self.schedule))
        family.restore_training_state(model, {n: x.to(device) for n, x in self._under(_FAMILY).items()})
        _set_generators(device, self._under(_RANDOM))

    def save(self, path: str | Path) -> None:
        """Write the file atomically.

        Raises:
            OSError: The disk is full or read-only.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {key: value for key, value in self.__dict__.items() if key != "tensors"}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file(_apart(tensors), draft, metadata={_HEADER: json.dumps(facts)})
            os.replace(draft, path)
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(f"cannot write the checkpoint {str(path)!r}: {error}") from error
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, spec: TrialSpec) -> TrainingState | None:
        """Read a file; return None if it is missing, damaged, or belongs to another run."""
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            return None
        # A file of an earlier version lacks the newer fields of a fidelity; they had their defaults.
        fidelity = {**asdict(Fidelity()), **facts["run"]["fidelity"]}
        is_same = {**facts["run"], "fidelity": fidelity} == _identity(spec)
        return cls(tensors=tensors, **facts) if is_same else None

    def _under(self, part: str) -> dict[str, Tensor]:
        prefix = f"{part}/"
        return {n.removeprefix(prefix): x for n, x in self.tensors.items() if n.startswith(prefix)}


def _identity(spec: TrialSpec) -> dict[str, Any]:
    """Return what identifies a run, as JSON returns it."""
    whose = {"config": dict(spec.config), "seed": spec.seed, "fidelity": asdict(spec.fidelity)}
    read: dict[str, Any] = json.loads(json.dumps(whose))
    return read


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _generators(device: torch.device) -> dict[str, Tensor]:
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def _set_generators(device: torch.device, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, each in its own memory, as safetensors requires."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found
