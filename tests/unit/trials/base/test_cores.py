"""The cores that a process may use: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

from trials.base import cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with eight cores, whose control groups a test writes."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_control_groups_the_affinity_counts(groups):
    assert cores.cpu_quota() == math.inf
    assert cores.usable_cores() == 8
    assert [cores.share_of_cores(n) for n in (1, 3, 8, 20)] == [8, 2, 1, 1]


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)],
)
def test_the_quota_of_a_container_counts(groups, quota, usable):
    write(groups, own="0::/\n", cpu__max=quota)
    assert cores.usable_cores() == usable


def test_the_least_quota_of_nested_groups_counts(groups):
    write(groups, own="1:name=systemd:/\n0::/user.slice/session.scope\n")
    write(groups / "user.slice", cpu__max="200000 100000")
    write(groups / "user.slice" / "session.scope", cpu__max="max 100000")
    assert cores.usable_cores() == 2


def test_a_group_that_is_mounted_at_the_top_is_found(groups):
    """A container may see the path that its group has on the host."""
    write(groups, own="0::/kubepods/pod1\n", cpu__max="400000 100000")
    assert cores.usable_cores() == 4


def test_the_quota_of_version_1_counts(groups):
    write(groups, own="4:cpu,cpuacct:/docker/a\n3:cpuset:/docker/a\n")
    write(groups / "cpu,cpuacct" / "docker" / "a", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert cores.usable_cores() == 2
    write(groups / "cpu,cpuacct" / "docker" / "a", cpu__cfs_quota_us="-1")
    assert cores.usable_cores() == 8


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_children_wait_passively_and_this_process_keeps_its_environment(no_settings):
    before = dict(os.environ)
    with cores.passive_children():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert dict(os.environ) == before


def test_the_environment_is_restored_after_an_error(no_settings):
    with pytest.raises(OSError, match="any"), cores.passive_children():
        raise OSError("any")
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stays(no_settings, monkeypatch, name):
    monkeypatch.setenv(name, "ACTIVE")
    before = dict(os.environ)
    with cores.passive_children():
        assert dict(os.environ) == before
    cores.wait_passively()
    assert dict(os.environ) == before


def test_a_process_waits_passively_only_if_pytorch_has_not_been_loaded(no_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    cores.wait_passively()
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delitem(sys.modules, "torch")
    cores.wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
