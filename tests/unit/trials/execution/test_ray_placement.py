"""The placement of Ray workers: every request fits on its node, and the nodes hold all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from trials.execution.ray_placement import Node, Placement, minimal, place


def node(
    name: str, cpus: float, gpus: float = 0, free_cpus: float | None = None, free_gpus: float | None = None
) -> Node:
    free = (cpus if free_cpus is None else free_cpus, gpus if free_gpus is None else free_gpus)
    return Node(name, name, cpus, gpus, *free)


def per_node(placements: list[Placement]) -> dict[str | None, int]:
    return dict(Counter(placement.node for placement in placements))


THREE_OF_TWO = [node(name, 2) for name in "abc"]


def test_a_cluster_of_cpus_gets_one_worker_per_node_with_all_its_cpus() -> None:
    assert place(THREE_OF_TWO) == [Placement(name, 2.0, 0.0, 2, 1) for name in "abc"]


@pytest.mark.parametrize(
    ("workers", "cpus"), [(1, [2]), (2, [2, 2]), (4, [1, 1, 2, 2]), (6, [1] * 6), (9, [1] * 6)]
)
def test_workers_divide_the_cpus_of_their_own_node(workers: int, cpus: list[int]) -> None:
    placements = place(THREE_OF_TWO, workers)
    assert [placement.cpus for placement in placements] == cpus
    assert [placement.threads for placement in placements] == cpus


def test_larger_nodes_get_more_workers() -> None:
    placements = place([node("small", 4), node("large", 12)], 4)
    assert per_node(placements) == {"small": 1, "large": 3}
    assert {placement.cpus for placement in placements} == {4.0}
    assert [placement.sharers for placement in placements] == [1, 3, 3, 3]


def test_threads_decide_how_many_workers_a_node_holds() -> None:
    placements = place([node("a", 7), node("b", 2), node("c", 1)], threads=2)
    assert per_node(placements) == {"a": 3, "b": 1}
    assert {(placement.cpus, placement.threads) for placement in placements} == {(2.0, 2)}
    assert place(THREE_OF_TWO, threads=3) == []


def test_cpus_that_other_jobs_hold_are_left_to_them() -> None:
    placements = place([node("a", 8, free_cpus=3.5), node("b", 8, free_cpus=0)])
    assert placements == [Placement("a", 3.0, 0.0, 3, 1)]


def test_a_cluster_without_a_free_cpu_is_waited_for() -> None:
    assert per_node(place([node("a", 8, free_cpus=0), node("b", 0)])) == {"a": 1}


def test_nodes_with_less_than_one_cpu_hold_no_worker() -> None:
    assert place([node("head", 0), node("half", 0.5)]) == []
    assert place([]) == []


def test_gpus_get_one_worker_each_and_nodes_without_none() -> None:
    placements = place([node("head", 16), node("a", 32, 4), node("b", 2, 2)])
    assert per_node(placements) == {"a": 4, "b": 2}
    assert {placement.gpus for placement in placements} == {1.0}
    assert {placement.cpus for placement in placements if placement.node == "a"} == {4.0}
    assert {placement.cpus for placement in placements if placement.node == "b"} == {1.0}


def test_workers_share_a_gpu_only_if_more_are_requested_than_there_are() -> None:
    two = [node("a", 8, 2), node("b", 8, 2)]
    assert per_node(place(two, 3)) == {"a": 2, "b": 1}
    assert {placement.gpus for placement in place(two, 4)} == {1.0}
    five = place(two, 5)
    assert [(placement.node, placement.gpus, placement.sharers) for placement in five] == (
        [("a", 0.5, 2)] * 3 + [("b", 1.0, 1)] * 2
    )
    assert {placement.gpus for placement in place(two, 12)} == {0.3333}


def test_free_gpus_come_first() -> None:
    nodes = [node("busy", 8, 4, free_gpus=0), node("free", 8, 4)]
    assert per_node(place(nodes, 4)) == {"free": 4}
    assert per_node(place(nodes)) == {"busy": 4, "free": 4}  # those of the busy node join when it is free


def test_a_node_with_fewer_cpus_than_gpus_gives_each_worker_a_part() -> None:
    placements = place([node("a", 2, 8)])
    assert [(placement.cpus, placement.threads) for placement in placements] == [(0.25, 1)] * 8


def test_a_model_on_the_cpu_takes_no_gpu() -> None:
    assert place([node("a", 8, 4), node("b", 8)], uses_gpus=False) == [
        Placement("a", 8.0, 0.0, 8, 1),
        Placement("b", 8.0, 0.0, 8, 1),
    ]


@pytest.mark.parametrize("uses_gpus", [True, False])
def test_nodes_always_hold_what_is_placed_on_them(uses_gpus: bool) -> None:
    """All requests of up to 13 workers on pairs of nodes of many sizes."""
    sizes = list(product((0.0, 0.5, 1.0, 3.0, 8.0), (0.0, 1.0, 3.0)))
    for first, second in product(sizes, sizes):
        nodes = [node("a", *first), replace(node("b", *second), free_cpus=second[0] / 2)]
        for workers, threads in product((None, 1, 2, 5, 13), (None, 1, 4)):
            placements = place(nodes, workers, uses_gpus=uses_gpus, threads=threads)
            assert workers is None or len(placements) <= workers
            for each in nodes:
                here = [placement for placement in placements if placement.node == each.id]
                assert sum(placement.cpus for placement in here) <= each.cpus + 1e-9
                assert sum(placement.gpus for placement in here) <= each.gpus + 1e-9
                assert all(placement.threads >= 1 for placement in here)


def test_the_least_that_is_requested_of_a_cluster_that_may_grow() -> None:
    assert minimal(None, uses_gpus=False, threads=None) == [Placement(None, 1.0, 0.0, 1)]
    assert minimal(2, uses_gpus=True, threads=3) == [Placement(None, 3.0, 1.0, 3)] * 2


def test_descriptions_name_amounts_with_their_units() -> None:
    assert str(Placement("a", 0.25, 1.0, 1)) == "0.25 CPU and 1 GPU"
    assert str(Placement("a", 2.0, 0.0, 1)) == "2 CPUs"
    assert str(node("a", 8, 4, free_cpus=3.5, free_gpus=0)) == "a: 3.5 of 8 CPUs free, 0 of 4 GPUs free"
