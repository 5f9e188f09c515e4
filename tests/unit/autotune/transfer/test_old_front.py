"""The earlier front of `autotune transfer`: a wrong folder is named, and a front without points is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.old_front import check_earlier_folder, check_has_front
from autotune.transfer.source_folders import read_source
from autotune.transfer.stored_sources import SOURCES_FILE
from search_spaces.errors import InvalidInputError


def carried(*is_on_front: bool) -> CarriedSource:
    n = len(is_on_front)
    return CarriedSource(
        name="sst2",
        folder="/sweeps/sst2",
        trials=tuple(range(n)),
        configs=tuple({"rank": i} for i in range(n)),
        values=np.zeros((n, 1)),
        is_on_front=is_on_front,
        note="sst2: 2 of 6 trials carried over; 4 of 4 points of its front left out",
    )


def test_a_front_without_points_here_is_refused() -> None:
    check_has_front(carried(False, True), "DIR")
    with pytest.raises(InvalidInputError) as error:
        check_has_front(carried(False, False), "DIR")
    assert "no point of the front of sst2 can be carried over" in str(error.value)
    assert "4 of 4 points of its front left out" in str(error.value)


def test_a_wrong_folder_is_a_problem_of_its_own_argument(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as error:
        check_earlier_folder(tmp_path / "none", tmp_path / "out")
    assert (error.value.problems[0].where, error.value.source) == ("DIR", "")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / SOURCES_FILE).touch()
    check_earlier_folder(tmp_path / "none", tmp_path / "out")  # it keeps what it needs


def test_a_folder_without_a_sweep_is_described_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as error:
        read_source(tmp_path, "empty", "start_from[0]")
    [problem] = error.value.problems
    assert problem.where == "start_from[0]"
    assert problem.what == f"{str(tmp_path)!r} holds no sweep.yaml"
