"""Ray workers on a cluster of two nodes with two CPUs each, which this machine pretends to have.

The workers load no model: `test_executors.py` trains one on Ray.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from search_spaces.errors import InvalidInputError, Problem
from trials.execution import ray_workers
from trials.execution.compute import Compute
from trials.execution.errors import ExecutorError
from trials.execution.ray_actor import RayActor
from trials.execution.ray_cluster import nodes_of
from trials.execution.ray_workers import RayExecutor
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

ray = pytest.importorskip("ray")

TASK = TaskSpec(dataset="org/data", text="text", label="label")
ON_CPU = ModelSpec(name="org/model", device="cpu")
FOREVER = TrialSpec({"family": "head"}, seed=1)


class LightActor(RayActor):
    """Loads nothing; what it does follows from the model's name."""

    def load(self, setup: Any, placement: Any) -> None:
        if setup.model.name == "dies":
            os._exit(1)
        if setup.model.name == "refused":
            raise InvalidInputError(Problem("model", "it is refused", "Choose another."))

    def run(self, spec: TrialSpec) -> TrialResult:
        while spec == FOREVER:
            time.sleep(0.05)
        return TrialResult(TrialStatus.COMPLETE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two GPUs are at the second node, which no model in these tests uses."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.add_node(num_cpus=2, num_gpus=2)
    ray.init(address=made.address, log_to_driver=False, include_dashboard=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Build executors of light workers, and stop them at the end."""
    monkeypatch.setattr(ray_workers, "RayActor", LightActor)
    made: list[RayExecutor] = []

    def make(workers: int | None = None, threads: int | None = None) -> RayExecutor:
        made.append(RayExecutor(workers, compute=Compute(threads)))
        return made[-1]

    yield make
    for executor in made:
        executor.stop()
    while any(node.free_cpus < node.cpus or node.free_gpus < node.gpus for node in nodes_of(ray)):
        time.sleep(0.02)  # Ray releases the resources of a worker after its end


def statuses(executor: RayExecutor, count: int) -> dict[int, str]:
    return {ticket: str(result.status) for ticket, result in (executor.next_result() for _ in range(count))}


@pytest.mark.parametrize(
    ("workers", "device", "slots", "note"),
    [
        (None, "cpu", 2, "Ray: 2 workers on 2 nodes with 2 CPUs each"),
        (1, "cpu", 1, "Ray: 1 worker on 1 node with 2 CPUs each"),  # four CPUs would fit on no node
        (None, "auto", 2, "Ray: 2 workers on 1 node with 1 CPU and 1 GPU each"),
    ],
)
def test_workers_start_where_they_fit(cluster, executors, workers, device, slots, note):
    executor = executors(workers)
    executor.start(ON_CPU.model_copy(update={"device": device}), TASK)
    assert (executor.slots, executor.notes) == (slots, [note])


def test_more_workers_than_the_cluster_holds_are_said(cluster, executors):
    executor = executors(workers=9)
    executor.start(ON_CPU, TASK)
    assert executor.slots == 4
    assert "the cluster holds 4 of the 9 requested workers" in executor.notes[1]


def test_a_dead_worker_is_replaced_while_the_others_go_on(cluster, executors):
    executor = executors()
    executor.start(ON_CPU, TASK)
    executor.submit(1, FOREVER)
    [(_, worker)] = executor._started().busy.values()
    executor.submit(2, TrialSpec({}))
    assert statuses(executor, 1) == {2: "complete"}
    ray.kill(worker.actor)
    assert statuses(executor, 1) == {1: "lost"}
    executor.submit(3, TrialSpec({}))
    executor.submit(4, TrialSpec({}))  # waits for the replacement
    assert statuses(executor, 2) == {3: "complete", 4: "complete"}
    assert executor.slots == 2


def test_a_node_that_has_gone_with_the_last_worker_ends_the_sweep(cluster, executors, monkeypatch):
    node = cluster.add_node(num_cpus=3)
    executor = executors(workers=1, threads=3)
    executor.start(ON_CPU, TASK)
    executor.submit(1, FOREVER)
    cluster.remove_node(node)
    assert statuses(executor, 1) == {1: "lost"}
    monkeypatch.setattr(ray_workers, "PLACEMENT_SECONDS", 0.2)
    with pytest.raises(ExecutorError, match=r"no worker within 0.2 s. .* Write executor.threads: 2 or less"):
        executor.submit(2, TrialSpec({}))


def test_a_cluster_whose_cpus_others_hold_says_so(cluster, executors, monkeypatch):
    executors(workers=2).start(ON_CPU, TASK)
    monkeypatch.setattr(ray_workers, "PLACEMENT_SECONDS", 0.2)
    with pytest.raises(ExecutorError) as caught:
        executors().start(ON_CPU, TASK)
    message = str(caught.value)
    assert "Ray started no worker within 0.2 s. 2 requested with 2 CPUs each." in message
    assert message.count("0 of 2 CPUs free") == 2
    assert "Other jobs hold the resources" in message


@pytest.mark.slow
def test_a_model_that_needs_a_gpu_waits_for_those_that_others_hold(cluster, executors, monkeypatch):
    """One of two GPUs is free. The second worker joins when it gets the other."""

    @ray.remote(num_gpus=1, num_cpus=0)
    class Other:
        def ready(self) -> None:
            """Hold a GPU."""

    other = Other.remote()
    ray.get(other.ready.remote())
    executor = executors()
    monkeypatch.setattr(ray_workers, "PLACEMENT_SECONDS", 5.0)
    executor.start(ON_CPU.model_copy(update={"device": "cuda"}), TASK)
    assert executor.slots == 1
    assert "1 more worker waits" in executor.notes[1]
    executor.submit(1, FOREVER)
    ray.kill(other)
    executor.submit(2, TrialSpec({}))  # waits for the second worker
    assert statuses(executor, 1) == {2: "complete"}
    assert executor.slots == 2


def test_more_cpus_than_a_node_has_are_refused_with_what_it_has(cluster, executors, monkeypatch):
    monkeypatch.setattr(ray_workers, "PLACEMENT_SECONDS", 0.2)
    with pytest.raises(
        ExecutorError, match=r"2 requested with 3 CPUs each.* Write executor.threads: 2 or less"
    ):
        executors(workers=2, threads=3).start(ON_CPU, TASK)


def test_an_error_of_loading_is_raised_as_it_is(cluster, executors):
    with pytest.raises(InvalidInputError, match=r"^model: it is refused. Choose another.$") as caught:
        executors().start(ON_CPU.model_copy(update={"name": "refused"}), TASK)
    assert type(caught.value) is InvalidInputError  # not one of Ray, with a traceback as its text


def test_workers_that_die_while_they_load_end_the_start(cluster, executors):
    with pytest.raises(ExecutorError, match=r"no Ray worker could be started: .+\. Every node needs"):
        executors().start(ON_CPU.model_copy(update={"name": "dies"}), TASK)
