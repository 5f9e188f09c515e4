"""LoRA's initial values from training data and from unquantized weights, against peft's own and in the search."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import CPTConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga

from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import load_space
from tests.support.packs import agree, alone, packed
from tests.support.tiny_models import batch, build, logits
from tests.support.trials import COMMON, classification
from trials.base.initialization import Pass, initialize, no_passes, save_adapter
from trials.base.token_choice import complete_config
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.run import Run, batches, train_to_end

TARGETS = ["query", "intermediate.dense"]
TOP = "layer.2"
"""The layer whose output is read for the first token alone, so that its queries' gradient has a single direction."""
SMALL = Fidelity(train_samples=48, eval_samples=40, evaluations=1)
needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs the extra `quantized`"
)


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    return Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), classification(reviews))


@pytest.fixture(scope="module")
def row() -> dict[str, torch.Tensor]:
    """One row, because peft's CorDA reads no more at once."""
    return {name: tensor[:1] for name, tensor in batch("sequence-classification").items()}


def trial(runner: Runner, init: str, **changes: Any) -> TrialSpec:
    space = load_space({"families": ["lora"]}, shape=runner.base.shape, task=runner.base.shape.task).space
    config = {**space.default(family="lora"), **COMMON, "epochs": 1, "lora.init": init, **changes}
    return TrialSpec(config, seed=3, fidelity=SMALL)


def ours(method: str, inputs: dict[str, torch.Tensor], rank: int = 4) -> Any:
    config = LoraConfig(target_modules=TARGETS, r=rank, lora_alpha=2 * rank)
    model = get_peft_model(build("bert", "sequence-classification"), config).eval()
    initialize(model, method, [Pass(inputs, lambda m: m(**inputs).loss)])
    return model


def updates(model: Any) -> dict[str, torch.Tensor]:
    """The initial B A of every adapted matrix, and its weight."""
    layers = {n: m for n, m in model.get_base_model().named_modules() if hasattr(m, "lora_A")}
    assert len(layers) == 6
    found = {n: (m.lora_B["default"].weight @ m.lora_A["default"].weight).detach() for n, m in layers.items()}
    return found | {f"{n}.weight": m.base_layer.weight.detach() for n, m in layers.items()}


def test_corda_is_that_of_peft(row: dict[str, torch.Tensor]) -> None:
    model = build("bert", "sequence-classification").eval()
    config = LoraConfig(
        target_modules=TARGETS, r=4, lora_alpha=8, init_lora_weights="corda", corda_config=CordaConfig()
    )
    preprocess_corda(model, config, run_model=lambda: model(**row))
    expected, found = updates(get_peft_model(model, config)), updates(ours("corda", row))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_lora_ga_takes_the_directions_of_peft(row: dict[str, torch.Tensor]) -> None:
    """peft scales B alone, where the paper scales both factors, and finds the directions by random projections."""
    model = build("bert", "sequence-classification").eval()
    config = LoraConfig(
        target_modules=TARGETS, r=2, lora_alpha=4, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()
    )
    preprocess_loraga(model, config, train_step=lambda: model(**row).loss.backward())
    expected, found = get_peft_model(model, config), ours("lora_ga", row, rank=2)
    theirs = {n: m.lora_A["default"].weight for n, m in expected.named_modules() if hasattr(m, "lora_A")}
    for name, module in found.named_modules():
        if hasattr(module, "lora_A") and f".{TOP}." not in name:
            mine, other = (
                torch.nn.functional.normalize(w) for w in (module.lora_A["default"].weight, theirs[name])
            )
            torch.testing.assert_close((mine @ other.t()).abs(), torch.eye(2), rtol=0, atol=1e-2, msg=name)


def test_eva_finds_the_principal_directions_of_the_inputs(row: dict[str, torch.Tensor]) -> None:
    model = ours("eva", row, rank=3)
    layer = model.get_base_model().bert.encoder.layer[0].attention.self.query
    seen: list[torch.Tensor] = []
    handle = layer.base_layer.register_forward_hook(lambda module, args, y: seen.append(args[0][0]))
    with torch.no_grad():
        model(**row)
    handle.remove()
    _, _, directions = torch.linalg.svd(seen[0] - seen[0].mean(0))
    cosines = (layer.lora_A["default"].weight @ directions[:3].t()).abs()
    torch.testing.assert_close(cosines, torch.eye(3), rtol=0, atol=1e-4)
    assert not layer.lora_B["default"].weight.any()


@pytest.mark.parametrize("method", ["eva", "corda", "lora_ga"])
def test_padding_and_the_initial_model_stay_out_of_it(method: str) -> None:
    """The model computes what it did before, and padded tokens change nothing that is read."""
    padded, short = batch("sequence-classification", padded=True), {}
    length = int(padded["attention_mask"][0].sum())
    for name, tensor in padded.items():
        short[name] = tensor[:1, :length] if tensor.ndim > 1 else tensor[:1]
    longer = {name: tensor[:1] for name, tensor in padded.items()}
    found, expected = updates(ours(method, longer)), updates(ours(method, short))
    for name, tensor in expected.items():
        if method == "lora_ga" and TOP in name:
            continue
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    plain = logits(build("bert", "sequence-classification"), padded)
    torch.testing.assert_close(logits(ours(method, longer), padded), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", ["olora", "eva", "corda", "lora_ga"])
def test_trials_repeat_and_leave_the_base_alone_in_a_pack_as_by_themselves(init: str, runner: Runner) -> None:
    before = {name: tensor.clone() for name, tensor in runner.base.model.state_dict().items()}
    one, plain = trial(runner, init), trial(runner, "kaiming")
    first, again, other = runner.run(one), runner.run(one), alone(runner, plain)
    assert first.status == TrialStatus.COMPLETE, first.error
    assert first.metrics == again.metrics
    assert first.metrics != other.metrics
    together = packed(runner, [one, plain])
    agree(together[0], alone(runner, one))
    agree(together[1], other)
    after = runner.base.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_batches_are_the_first_of_the_run(runner: Runner) -> None:
    """So the seed decides them, and a run has as many as the initialization reads, if it has enough."""
    run = Run(runner.base, runner.data, trial(runner, "eva"))
    train = run.data.splits["train"]
    order = list(batches(train[:40], 16, 1, seed=3))
    passes = run._passes(order, train)
    assert [len(inputs["input_ids"]) for inputs, _, _ in passes] == [len(indices) for indices in order]
    with pytest.raises(ValueError, match="need 8 batches of training data"):
        runner.base.adapted(trial(runner, "eva").config, seed=0)
    assert no_passes(0) == ()


def test_a_choice_that_a_model_cannot_have_is_dropped_with_the_reason(runner: Runner) -> None:
    loaded = load_space({"families": ["lora"]}, shape=runner.base.shape)
    assert "loftq" not in next(p for p in loaded.space.parameters if p.name == "lora.init").choices
    assert "loftq corrects the error of quantized weights" in loaded.narrowed["lora.init"]
    with pytest.raises(InvalidInputError, match="loftq corrects the error of quantized weights"):
        load_space({"families": ["lora"], "parameters": {"lora.init": "loftq"}}, shape=runner.base.shape)


@needs_bitsandbytes
@pytest.mark.parametrize(("weights", "share"), [("int8", 1.0), ("nf4", 0.5)])
def test_loftq_brings_a_quantized_model_back_to_the_original(
    weights: Any, share: float, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    spec = ModelSpec(name=str(tiny_model("bert")), weights=weights)
    runner = Runner(spec, classification(reviews))
    assert runner.base.unquantized is not None
    original = runner.base.unquantized()
    ids = {"input_ids": torch.tensor([[2, 9, 10, 30, 3]])}

    def distance(init: str) -> float:
        model = runner.base.adapted(trial(runner, init, **{"lora.rank": 16}).config, seed=0).eval()
        hidden = partial(torch.nn.Module.__call__, **ids, output_hidden_states=True)
        with torch.no_grad():
            one, other = hidden(model).hidden_states[-1], hidden(original).hidden_states[-1]
        return float((one - other).norm() / other.norm())

    # In 8 bits, most of the distance comes from the inputs, which are quantized too.
    assert distance("loftq") < share * distance("kaiming")
    result = runner.run(trial(runner, "loftq"))
    assert result.status == TrialStatus.COMPLETE, result.error


def test_the_most_frequent_tokens_are_chosen() -> None:
    config = LoraConfig(target_modules=TARGETS, trainable_token_indices=[0, 1, 2, 3])
    ids = torch.tensor([[7, 7, 9, 0], [7, 9, 5, 4]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    passes = [Pass({"input_ids": ids, "attention_mask": mask}, lambda model: torch.zeros(()))]
    complete_config(config, "frequent_tokens", passes)
    assert config.trainable_token_indices == [4, 5, 7, 9]
    config.trainable_token_indices = list(range(6))
    complete_config(config, "frequent_tokens", passes)
    assert config.trainable_token_indices == [0, 1, 4, 5, 7, 9]


def test_the_context_is_the_first_examples_with_their_inputs_and_answers_told_apart() -> None:
    config = CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[0] * 6)
    ids = torch.tensor([[7, 8, 9, 0], [5, 6, 0, 0]])
    labels = torch.tensor([[-100, 8, 9, -100], [5, 6, -100, -100]])
    mask = (ids > 0).long()
    passes = [Pass({"input_ids": ids, "attention_mask": mask}, lambda model: torch.zeros(()), labels)]
    complete_config(config, "context_tokens", passes)
    assert config.cpt_token_ids == [7, 8, 9, 5, 6, 7]
    # The second is a text whose every token is learned; the last token is one that ends the context.
    assert config.cpt_tokens_type_mask == [2, 4, 4, 6, 8, 12]


@pytest.mark.parametrize("family", ["cpt", "trainable_tokens"])
def test_tokens_of_the_data_are_trained_in_a_language_model(
    family: str, tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    """The run repeats, and its adapter computes the same on a new base model."""
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(type="causal-lm", text="sentence", **named)
    runner = Runner(ModelSpec(name=str(tiny_model("gpt2")), precision="fp32"), task)
    space = load_space({"families": [family]}, shape=runner.base.shape, task="causal-lm").space
    spec = TrialSpec({**space.default(family=family), **COMMON, "epochs": 1}, seed=3, fidelity=SMALL)
    run = Run(runner.base, runner.data, spec)
    assert train_to_end(run).metrics == pytest.approx(runner.run(spec).metrics, rel=1e-5)
    save_adapter(run.model.eval(), tmp_path)
    loaded = PeftModel.from_pretrained(runner.base.skeleton(), str(tmp_path)).eval()
    ids = {"input_ids": torch.tensor([[5, 9, 10, 30, 3]])}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**ids).logits, run.model(**ids).logits)
        assert float((loaded(**ids).logits[:, -5:] - runner.base.model(**ids).logits).abs().max()) > 1e-3
