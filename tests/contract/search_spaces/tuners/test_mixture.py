"""Mixtures of LoRA experts: equal to LoRA with one expert, weights and balance by hand, and the loss of training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import linear
from transformers import Trainer, TrainingArguments

from search_spaces.costs.cost_model import CostModel
from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from search_spaces.tuners import CompositeLayer
from search_spaces.tuners.mixture import Mixture, balance_loss
from tests.support.tiny_models import (
    DEPTH,
    Case,
    batch,
    build,
    largest,
    logits,
    observe,
    shape_of,
    step,
    workload,
)

TASK = "sequence-classification"


def adapted(config: Configuration, model: str = "bert") -> Any:
    return Case("molora", model, TASK, 0, config).adapted()


def mixture(**settings: Any) -> Mixture:
    return Mixture(**{"targets": "x", "size": 3, **settings})


def tensors(part: Mixture, inputs: int = 6, outputs: int = 5) -> dict[str, torch.Tensor]:
    """The part's tensors on a matrix, all of them random and large enough to tell experts apart."""
    torch.manual_seed(0)
    return {name: torch.randn_like(t) for name, t in part.tensors(torch.nn.Linear(inputs, outputs)).items()}


@pytest.mark.parametrize("model_name", ["bert", "gpt2", "llama"])
def test_one_expert_is_lora(model_name: str) -> None:
    """The same draw of A, and the same outputs and gradients in every step of training."""
    shape = shape_of(model_name, TASK)
    own = adapted({"experts": 1, "rank": 3, "scale": 1.5}, model_name)
    lora = get_peft_model(
        build(model_name, TASK), REGISTRY["lora"].peft_config({"rank": 3, "scale": 1.5}, shape, TASK)
    )
    pairs = dict(zip(factors(own), factors(lora), strict=True))
    for mine, theirs in pairs.items():
        theirs.data.copy_(mine.data)  # peft draws A twice, so its generator is elsewhere
    inputs = batch(TASK, padded=True)
    for _ in range(3):
        losses = [model.train()(**inputs).loss for model in (own, lora)]
        torch.testing.assert_close(*losses, atol=1e-6, rtol=0)
        for model, loss in zip((own, lora), losses, strict=True):
            model.zero_grad()
            loss.backward()
        for mine, theirs in pairs.items():
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=0)
            mine.data -= 0.1 * mine.grad
            theirs.data -= 0.1 * theirs.grad
    assert largest(logits(own, inputs) - logits(lora, inputs)) < 1e-6
    assert largest(logits(own, inputs) - logits(build(model_name, TASK), inputs)) > 1e-4


def factors(model: Any) -> list[torch.nn.Parameter]:
    """A and B of each adapted matrix, and the head."""
    names = ("low_rank_A", "low_rank_B", "lora_A", "lora_B", "modules_to_save")
    return [p for name, p in model.named_parameters() if p.requires_grad and any(n in name for n in names)]


@pytest.mark.parametrize("router", ["top_k", "threshold", "soft"])
def test_equal_experts_are_one(router: str) -> None:
    """The weights sum to one, so a mixture of equal experts is LoRA with their factors."""
    part = mixture(experts=4, router=router, scale=2.0)
    own = tensors(part)
    own["A"], own["B"] = own["A"][:1].expand(4, -1, -1), own["B"][:, :1].expand(-1, 4, -1)
    x, y = torch.randn(2, 7, 6), torch.randn(2, 7, 5)
    expected = y + 2.0 * linear(linear(x, own["A"][0]), own["B"][:, 0])
    torch.testing.assert_close(part.rewrite(own, x, y), expected, atol=1e-5, rtol=1e-5)


def weights_by_hand(router: str, own: dict[str, torch.Tensor], token: torch.Tensor) -> torch.Tensor:
    p = (own["router"] @ token).softmax(0)
    if router == "soft":
        return p
    if router == "threshold":
        limit = torch.sigmoid(own["threshold"][0] @ token + own["threshold_bias"]) / len(p)
        return (p - limit).clamp(min=0) / (p - limit).clamp(min=0).sum()
    kept = p >= p.sort(descending=True).values[1]
    return p * kept / (p * kept).sum()


@pytest.mark.parametrize("router", ["top_k", "threshold", "soft"])
def test_the_update_by_hand(router: str) -> None:
    part = mixture(experts=4, router=router, scale=0.5)
    own = tensors(part)
    x, y = torch.randn(2, 7, 6), torch.randn(2, 7, 5)
    found = part.rewrite(own, x, y)
    for row, column in ((0, 0), (1, 3), (1, 6)):
        token, expected = x[row, column], y[row, column].clone()
        for e, weight in enumerate(weights_by_hand(router, own, token)):
            expected += 0.5 * weight * (own["B"][:, e] @ (own["A"][e] @ token))
        torch.testing.assert_close(found[row, column], expected, atol=1e-5, rtol=1e-5)


def test_a_single_active_expert_keeps_its_probability() -> None:
    """Divided by itself it would be one, and the router would learn nothing."""
    part = mixture(experts=3, top_k=1)
    own = {name: tensor.requires_grad_() for name, tensor in tensors(part).items()}
    x = torch.randn(4, 6)
    update = part.rewrite(own, x, torch.zeros(4, 5))
    p, chosen = (x @ own["router"].T).softmax(-1).max(-1)
    expected = torch.stack(
        [2.0 * p[i] * (own["B"][:, e] @ (own["A"][e] @ x[i])) for i, e in enumerate(chosen.tolist())]
    )
    torch.testing.assert_close(update, expected, atol=1e-5, rtol=1e-5)
    update.sum().backward()
    assert largest(own["router"].grad) > 0


def test_the_balance_by_hand() -> None:
    """Three tokens and padding: expert 0 has half of the six pairs, expert 1 a third, expert 2 a sixth."""
    p = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    active = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    mask = torch.tensor([True, True, True, False])
    expected = 3 * (3 / 6 * 1.6 / 3 + 2 / 6 * 0.8 / 3 + 1 / 6 * 0.6 / 3)
    assert float(balance_loss(p, active, mask)) == pytest.approx(expected)
    assert float(balance_loss(p[:3], active[:3])) == pytest.approx(expected)
    equal = torch.full((4, 4), 0.25)
    assert float(balance_loss(equal, torch.eye(4))) == pytest.approx(1.0)


@pytest.mark.parametrize("router", ["top-k", "threshold"])
def test_the_balance_is_part_of_the_training_loss_alone(router: str) -> None:
    inputs = batch(TASK, padded=True)
    losses = {}
    for balance in (0.0, 0.1, 0.2):
        model = adapted({"router": router, "balance": balance})
        assert model.base_model.adds_to_loss == (balance > 0)
        losses[balance] = model.train()(**inputs).loss.item(), model.eval()(**inputs).loss.item()
        with model.train().disable_adapter():
            assert model(**inputs).loss.item() == pytest.approx(losses[0.0][1], abs=1e-6)
        with torch.no_grad():
            assert model(**inputs).loss.item() == pytest.approx(losses[0.0][1], abs=1e-6)
    plain, once, twice = (losses[balance][0] for balance in (0.0, 0.1, 0.2))
    matrices = 6 * DEPTH
    assert once - plain == pytest.approx(0.1 * matrices, rel=0.5)  # each is about one at the start
    assert twice - plain == pytest.approx(2 * (once - plain), rel=1e-4)
    assert {evaluated for _, evaluated in losses.values()} == {losses[0.0][1]}


def test_padding_has_no_part_in_the_balance() -> None:
    """The loss of one row is the same with and without its padding."""
    model = adapted({"balance": 0.1}).train()
    padded = batch(TASK, padded=True)
    length = int(padded["attention_mask"][0].sum())
    row = {name: tensor[:1] for name, tensor in padded.items()}
    cut = {name: tensor[:, :length] if tensor.ndim == 2 else tensor for name, tensor in row.items()}
    torch.testing.assert_close(model(**row).loss, model(**cut).loss, atol=1e-5, rtol=0)


def test_a_loss_computed_outside_of_the_model_can_include_the_balance() -> None:
    inputs = batch(TASK, padded=True)
    model = adapted({"balance": 0.1}).train()
    whole = model(**inputs).loss
    assert model.base_model.take_loss() is None
    labels = inputs.pop("labels")
    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
    balance = model.base_model.take_loss()
    torch.testing.assert_close(loss + balance, whole)
    assert model.base_model.take_loss() is None
    assert adapted({"balance": 0.0}).base_model.take_loss() is None


def test_checkpointed_layers_have_the_same_gradients() -> None:
    inputs, found = batch(TASK, padded=True), []
    for checkpointing in (False, True):
        model = adapted({"balance": 0.1}).train()
        if checkpointing:
            model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
        loss = model(**inputs).loss
        loss.backward()
        assert model.base_model.take_loss() is None
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_a_copy_and_an_unloaded_model_have_hooks_of_their_own() -> None:
    inputs = batch(TASK)
    model = adapted({"balance": 0.1}).train()
    whole = model(**inputs).loss
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(**inputs).loss, whole)
    first, second = (
        next(part.routing for m in each.modules() if isinstance(m, CompositeLayer) for part, _ in m.active())
        for each in (model, twin)
    )
    assert first is not second
    plain = twin.unload()
    assert not plain._forward_hooks
    assert not plain._forward_pre_hooks
    torch.testing.assert_close(model(**inputs).loss, whole)


def test_accumulated_micro_batches_share_the_balance() -> None:
    """The Trainer passes the number of targets of all micro-batches; the shares of the loss then sum to one."""
    model = adapted({"balance": 0.1}).train()
    inputs = batch(TASK)
    task = adapted({"balance": 0.0}).train()
    whole = model(**inputs).loss - task(**inputs).loss
    count = len(inputs["labels"])
    share = (
        model(**inputs, num_items_in_batch=2 * count).loss - task(**inputs, num_items_in_batch=2 * count).loss
    )
    torch.testing.assert_close(share, whole / 2, atol=1e-6, rtol=0)


def test_the_trainer_optimizes_it_and_evaluates_without(tmp_path: Any) -> None:
    inputs = batch(TASK, padded=True)
    rows = [{name: tensor[i] for name, tensor in inputs.items()} for i in range(len(inputs["labels"]))]
    arguments = TrainingArguments(
        str(tmp_path), use_cpu=True, max_steps=1, per_device_train_batch_size=4, learning_rate=0.0,
        logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = adapted({"balance": 0.1})
    expected = model.train()(**inputs).loss.item(), model.eval()(**inputs).loss.item()
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trained = trainer.train().training_loss
    assert (trained, trainer.evaluate()["eval_loss"]) == pytest.approx(expected, rel=1e-5)


PROFILE: Configuration = {"experts.level": 3, "experts.slope": 1.5, "experts.bump": 0.0, "rank": 2}


def test_experts_by_layer() -> None:
    """A slope of 1.5 doublings over three layers: 1, 3 and 8 experts; the layer with one has no router."""
    model = adapted(PROFILE)
    routers = {name.split(".")[5]: len(p) for name, p in model.named_parameters() if "mixture_router" in name}
    assert routers == {"1": 3, "2": 8}
    assert {n.split(".")[5] for n, _ in model.named_parameters() if "low_rank_A" in n} == {"0"}


@pytest.mark.parametrize("model_name", ["bert", "llama"])
@pytest.mark.parametrize("router", ["top-k", "threshold"])
def test_the_cost_of_a_profile(model_name: str, router: str) -> None:
    case = Case("molora", model_name, TASK, 200, {**PROFILE, "router": router})
    seen, shape = observe(case), shape_of(model_name, TASK)
    costs = CostModel(shape, TASK, workload(TASK))(case.full_config)
    assert costs.trainable_params == seen.adapter
    assert costs.train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert costs.inference_flops == pytest.approx(seen.inference_flops, rel=1e-9)


def test_a_layer_of_one_expert_can_be_merged() -> None:
    inputs = batch(TASK)
    model = adapted({"experts": 1})
    step(model, inputs)
    expected = logits(model, inputs)
    assert largest(logits(model.merge_and_unload(), inputs) - expected) < 1e-5
    with pytest.raises(ValueError, match="kind mixture cannot be merged"):
        adapted({}).merge_adapter()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 1}, "use the kind low_rank"),
        ({"router": "hard"}, "router: 'hard' is unknown"),
        ({"balance": -1.0}, "balance: -1.0 is negative"),
        ({"top_k": 0}, "top_k: 0 is not a positive"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(**settings)
