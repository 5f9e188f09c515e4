"""Hidden states on disk: the same numbers, readable by other processes, within the size limit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.errors import InvalidInputError
from tests.support.packs import agree, spec
from trials.execution.in_process import PackedExecutor
from trials.execution.runner import Runner
from trials.packing import prefix_store
from trials.packing.pack import Pack
from trials.packing.prefix_cache import PrefixCache
from trials.packing.prefix_store import PrefixStore, base_digest, example_key, parse_size, store_for
from trials.reading.encoding import Encoded
from trials.records import TrialResult
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.run import Run, train_to_end

CPU = torch.device("cpu")
WIDTH = 4


def examples(count: int, seed: int = 0) -> list[Encoded]:
    return [
        {"input_ids": [seed, i] + [1] * (i % 3), "attention_mask": [1], "labels": 0} for i in range(count)
    ]


def store(root: Path, limit: int = 2**20, base: str = "base") -> PrefixStore:
    return PrefixStore(root, limit, lambda: base, CPU)


def filled(root: Path, count: int = 6, seed: int = 0, limit: int = 2**20, base: str = "base") -> list[Path]:
    """The shards after one more, whose states are numbers from the example."""
    made = store(root, limit, base)
    given = examples(count, seed)
    made.add(given, [states_of(e) for e in given], 2, seconds=100.0)
    made.flush()
    return sorted(root.rglob("*.safetensors"))


def states_of(example: Encoded) -> torch.Tensor:
    start = 100.0 * example["input_ids"][0] + example["input_ids"][1]
    return torch.full((len(example["input_ids"]), WIDTH), start)


def test_another_process_reads_what_one_wrote(tmp_path):
    (shard,) = filled(tmp_path)
    assert shard.parent == tmp_path / "base" / "2"
    given = examples(8)
    other = store(tmp_path)
    assert other.levels == {2}
    assert other.has(given[0], 2)
    assert not other.has(given[7], 2)
    assert not other.has(given[0], 1)
    found = other.read(given, 2)
    assert set(found) == {id(example) for example in given[:6]}
    for example in given[:6]:
        assert torch.equal(found[id(example)], states_of(example))
    assert store(tmp_path, base="another").read(given, 2) == {}


def test_what_waits_for_its_shard_is_read_too(tmp_path):
    made, given = store(tmp_path), examples(3)
    made.add(given, [states_of(e) for e in given], 1, seconds=1.0)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert torch.equal(made.read(given, 1)[id(given[2])], states_of(given[2]))


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "lengths"])
def test_a_damaged_shard_is_a_miss(tmp_path, harm):
    (shard,) = filled(tmp_path)
    content = shard.read_bytes()
    if harm == "lengths":
        from safetensors.torch import load_file, save_file

        save_file({**load_file(shard), "lengths": torch.ones(6, dtype=torch.long)}, shard, {"seconds": "1.0"})
    else:
        shard.write_bytes({"cut": content[:-40], "empty": b"", "text": b"no tensors here"}[harm])
    assert store(tmp_path).read(examples(6), 2) == {}
    assert len(filled(tmp_path)) == 2
    assert len(store(tmp_path).read(examples(6), 2)) == 6


def test_a_draft_is_no_shard_and_goes_when_it_is_old(tmp_path):
    (shard,) = filled(tmp_path)
    fresh, old = (shard.with_name(f".{name}.safetensors.tmp") for name in ("fresh", "old"))
    for draft in (fresh, old):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert filled(tmp_path, seed=1) == sorted([*tmp_path.rglob("*.safetensors")])
    assert fresh.exists()
    assert not old.exists()


def test_the_limit_holds_and_the_least_recently_used_goes_first(tmp_path):
    size = filled(tmp_path / "one", 300)[0].stat().st_size
    root, limit = tmp_path / "all", 2 * size + 2**13
    (first,) = filled(root, 300, seed=1, limit=limit)
    os.utime(first, (1, 1))
    (second,) = set(filled(root, 300, seed=2, limit=limit)) - {first}
    os.utime(second, (2, 2))
    store(root).read(examples(1, seed=1), 2)  # now the second was used longer ago
    filled(root, 300, seed=3, limit=limit, base="new")
    assert first.exists()
    assert not second.exists()
    assert sum(path.stat().st_size for path in root.rglob("*.safetensors")) <= limit


def test_what_a_process_uses_is_not_pushed_out_by_itself(tmp_path):
    size = filled(tmp_path / "one", 300)[0].stat().st_size
    made = store(tmp_path / "all", size + 2**13)
    for seed in (1, 2):
        given = examples(300, seed)
        made.add(given, [states_of(e) for e in given], 2, seconds=100.0)
        made.flush()
    assert len(made.read(examples(6, 1), 2)) == 6
    assert made.read(examples(6, 2), 2) == {}


def test_a_disk_that_is_slower_than_computing_is_left_alone(tmp_path):
    made, given = store(tmp_path), examples(2)
    made.add(given[:1], [states_of(given[0])], 2, seconds=100.0)
    made.flush()
    made.add(given[1:], [states_of(given[1])], 3, seconds=1e-9)
    made.flush()
    assert not made.writing
    assert made.reading
    slow = store(tmp_path)
    for _ in range(prefix_store._TRIED):
        slow.read(given, 3)
    assert not slow.reading
    assert slow.read(given, 2) == {}
    assert not slow.has(given[0], 2)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where the folder should be")
    made, given = store(tmp_path / "taken" / "below"), examples(2)
    made.add(given, [states_of(e) for e in given], 2, seconds=1.0)
    made.flush()
    assert "memory only" in caplog.text
    assert not made.writing


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4GiB", 2**32), ("1.5 MB", 1_500_000), ("7", 7), ("2k", 2000), ("3 KiB", 3072)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "4 XB", "4i"])
def test_what_is_no_size_is_said(text, monkeypatch, runner):
    monkeypatch.setenv(prefix_store.VARIABLE, text)
    with pytest.raises(InvalidInputError, match="is not a size"):
        store_for(runner.base)


def test_the_digest_is_of_everything_that_decides(runner, tiny_model, reviews):
    """Another draw of the head changes nothing; a weight, the precision and the attention do."""
    base = runner.base
    again = replace(base, model=base.skeleton())
    for name in base.shape.head_modules:
        for parameter in again.model.get_submodule(name).parameters():
            parameter.data.add_(1.0)
    digest = base_digest(base)
    assert base_digest(again) == digest
    assert base_digest(replace(base, autocast=torch.bfloat16)) != digest
    layer = again.model.get_submodule(base.shape.layers_path)[-1]
    weight = next(layer.parameters())
    weight.data = weight.data.clone()
    weight.data.view(-1)[0] += 1e-6
    assert base_digest(again) != digest
    example = runner.data.splits["train"][0]
    assert example_key({**example, "labels": 7}) == example_key(example)
    assert example_key({**example, "input_ids": [*example["input_ids"][:-1], 5]}) != example_key(example)


def run(runner: Runner, prefixes: PrefixCache) -> tuple[TrialResult, list[int], dict[str, torch.Tensor]]:
    """A trial of two epochs, how many examples were computed in the frozen layer, and the weights at its end."""
    pack, computed = Pack(runner.base, runner.data, prefixes=prefixes), []
    real = pack._compute

    def noting(missing, start, below, stop):
        computed.extend(len(example["input_ids"]) for example in missing)
        return real(missing, start, below, stop)

    pack._compute = noting
    assert pack.enter(0, spec(runner, "lora", 1, **{"lora.layers": 1})) is None
    model, results = pack._runs[0].model, {}
    while len(pack):
        results.update(pack.advance())
    return results[0], computed, {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def test_memory_disk_and_neither_agree(runner, tmp_path):
    """Exactly, where the states were computed in the same batches; else up to rounding."""
    s = spec(runner, "lora", 1, **{"lora.layers": 1})
    alone = train_to_end(Run(runner.base, runner.data, s))
    kept, computed, weights = run(runner, PrefixCache())
    nothing, all_computed, _ = run(runner, PrefixCache(limit=0))
    made = store(tmp_path)
    made.limit = 2**24
    disk, once, from_disk = run(runner, PrefixCache(limit=0, store=made))
    later, never, in_another = run(runner, PrefixCache(limit=0, store=store(tmp_path)))
    warm, neither, with_memory = run(runner, PrefixCache(store=store(tmp_path)))
    assert len(computed) == len(once) == 96 + 40
    assert len(all_computed) == 2 * (96 + 40)
    assert never == neither == []
    for other in (from_disk, in_another, with_memory):
        assert all(torch.equal(other[name], weight) for name, weight in weights.items())
    for result in (kept, nothing, disk, later, warm):
        agree(result, alone, rel=1e-5)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors")) > 10_000


def test_states_continue_from_lower_layers_on_disk(tmp_path):
    filled(tmp_path)  # after two layers
    cache, calls = PrefixCache(store=store(tmp_path)), []

    def compute(missing, start, below, stop):
        calls.append((len(missing), start, stop))
        return torch.zeros(len(missing), 5, WIDTH) if below is None else below + 1

    given = examples(6)
    found = cache.get(given, 3, compute)
    assert calls == [(6, 2, 3)]
    assert torch.equal(found[4, : len(given[4]["input_ids"])], states_of(given[4]) + 1)


def test_the_executor_uses_the_folder_of_the_user(
    tiny_model: Callable[[str], Path], reviews, tmp_path, monkeypatch
):
    monkeypatch.setenv(prefix_store.VARIABLE, "1MiB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    model = ModelSpec(name=str(tiny_model("bert")), precision="fp32")
    executor = PackedExecutor(workers=2)
    executor.start(model, TaskSpec(text="sentence", label="label", **named))
    executor.submit(1, spec(executor.runner, "lora", 1, **{"lora.layers": 1}))
    assert executor.next_result()[1].metrics
    executor.stop()
    shards = list((tmp_path / "autotune" / "prefixes").rglob("*.safetensors"))
    assert shards
    assert sum(path.stat().st_size for path in shards) <= 2**20
