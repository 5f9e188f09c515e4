"""What is checked before Ray workers start: the cluster's address, the device, and the files on a node."""

from __future__ import annotations

import functools
import socket
from pathlib import Path

import pytest

from search_spaces.errors import InvalidInputError
from trials.execution.ray_actor import check_files, local_files
from trials.execution.ray_cluster import advice
from trials.execution.ray_placement import Node, Placement
from trials.execution.ray_workers import RayExecutor
from trials.tasks.specs import ModelSpec, TaskSpec

MODEL = ModelSpec(name="org/model")
TASK = TaskSpec(dataset="org/data", text="text", label="label")


def test_a_device_by_its_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"model.device: Ray chooses .*'cuda:1'.* Write device: cuda"):
        RayExecutor().start(MODEL.model_copy(update={"device": "cuda:1"}), TASK)


@pytest.mark.parametrize("address", ["host:port", "ray://host:port", "auto", "nonsense"])
def test_a_missing_cluster_is_named_with_its_address(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(set))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.socket() as unused:  # bound and not listening: the port is closed
        unused.bind(("127.0.0.1", 0))
        address = address.replace("host:port", f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(InvalidInputError, match=f"no Ray cluster at {address!r}: ") as caught:
            RayExecutor(address=address).start(MODEL, TASK)
    assert caught.value.problems[0].where == "executor.address"
    assert "ray start --head" in caught.value.problems[0].fix


def test_a_missing_cluster_of_the_environment_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(InvalidInputError, match=r"at 'nonsense' .*RAY_ADDRESS") as caught:
        RayExecutor().start(MODEL, TASK)
    assert "RAY_ADDRESS" in caught.value.problems[0].fix


def test_files_that_a_node_lacks_are_named_with_the_node(tmp_path: Path) -> None:
    model, train, lost = (tmp_path / name for name in ("model", "train.tsv", "lost.tsv"))
    model.mkdir()
    train.touch()
    task = TaskSpec(train=[str(train), str(lost)], text="text", label="label")
    files = local_files(ModelSpec(name=str(model)), task)
    assert files == (str(model), str(train))
    check_files(files, "here")
    train.unlink()
    with pytest.raises(InvalidInputError, match=r"'.*/train.tsv' does not exist on the Ray node gpu-7"):
        check_files(files, "gpu-7")


def test_names_of_splits_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path)
    assert local_files(MODEL, TASK) == ()
    assert local_files(MODEL, TaskSpec(train="train", text="text", label="label")) == ("train",)


@pytest.mark.parametrize(
    ("node", "placement", "text"),
    [
        (Node("a", "a", 8, 1, 0, 0), Placement("a", 4, 1, 4), "Other jobs hold the resources"),
        (Node("a", "a", 8, 0, 8, 0), Placement(None, 1, 1, 1), "Write model.device: cpu"),
        (Node("a", "a", 8, 0, 8, 0), Placement(None, 16, 0, 16), "Write executor.threads: 8 or less"),
        (Node("a", "a", 0, 0, 0, 0), Placement(None, 1, 0, 1), "Add nodes; "),
    ],
)
def test_the_advice_fits_what_is_missing(node: Node, placement: Placement, text: str) -> None:
    assert advice([node], placement).startswith(text)
