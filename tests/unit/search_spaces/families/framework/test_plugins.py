"""A family from another package: found once installed, and as good as a built-in one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.families.framework.plugins import GROUP, load_plugins
from search_spaces.language.loader import load_space
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import BATCH, TOKENS, Case, observe, shape_of

EXAMPLE = Path(__file__).parents[5] / "examples" / "own_family"
CONFIG: Configuration = {"targets": "q+v", "layers": 2, "learning_rate": 1e-3}


def install(site: Path, module: Path, entry_points: dict[str, str]) -> None:
    """What pip leaves behind: the module and its package's metadata."""
    shutil.copy(module, site)
    info = site / "rank_one_family-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rank-one-family\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}\n" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(lines))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with the example in it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(tmp_path, EXAMPLE / "rank_one.py", project["entry-points"][GROUP])
    return tmp_path


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example in the registry, and the registry as it was afterwards."""
    before = dict(REGISTRY)
    monkeypatch.syspath_prepend(site)
    load_plugins()
    yield
    for name in set(REGISTRY) - set(before):
        del REGISTRY[name]
    sys.modules.pop("rank_one", None)
    assert before == REGISTRY


def test_it_is_short() -> None:
    assert len((EXAMPLE / "rank_one.py").read_text().splitlines()) < 60


def test_importing_the_families_finds_it(site: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from search_spaces.families import REGISTRY\n"
        "print('rank-one' in REGISTRY, [m for m in ('torch', 'peft') if m in sys.modules])"
    )
    root = Path(__file__).parents[5]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "True []"


@pytest.mark.usefixtures("installed")
def test_a_space_names_it_and_it_is_priced() -> None:
    shape = shape_of("bert", "sequence-classification")
    loaded = load_space({"families": ["rank-one", "lora"]}, shape=shape)
    assert loaded.left_out == {}
    assert "rank-one.targets" in loaded.space
    costs = CostModel(shape, shape.task, Workload(TOKENS, TOKENS**2, BATCH))
    configs: list[Configuration] = [
        {"family": "rank-one", "rank-one.targets": "q+v", "rank-one.layers": 2},
        {"family": "lora", "lora.rank": 1, "lora.targets": "q+v", "lora.layers": 2},
    ]
    table = costs.many(configs)
    assert table.trainable_params.tolist() == [2 * 2 * (32 + 32)] * 2
    assert table.train_flops[0] == table.train_flops[1] == costs(configs[0]).train_flops


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_it_trains_saves_loads_and_merges(model: str) -> None:
    case = Case("rank-one", model, "sequence-classification", 0, CONFIG)
    seen = observe(case)
    shape = shape_of(model, case.task)
    estimated = CostModel(shape, case.task, Workload(TOKENS, TOKENS**2, BATCH, BATCH))(case.full_config)
    assert estimated.trainable_params == seen.adapter
    assert estimated.train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert seen.wrong_gradients == ()
    assert seen.change > 1e-3
    assert seen.reload_error < 1e-6
    assert seen.merge_error is not None
    assert seen.merge_error < 1e-4


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise ImportError('no such thing')", "no such thing"),
        (
            "from search_spaces.families import register\n"
            "from search_spaces.families.lora import Lora\n"
            "register(type('Twin', (Lora,), {}))",
            "'lora' is already registered",
        ),
    ],
)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, reason: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "broken_family.py").write_text(module)
    install(tmp_path, tmp_path / "source" / "broken_family.py", {"broken": "broken_family"})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"'broken_family' of rank-one-family cannot be used") as caught:
        load_plugins()
    assert reason in str(caught.value)
    assert "broken_family" not in sys.modules


def test_nothing_is_left_behind() -> None:
    assert "rank-one" not in REGISTRY
