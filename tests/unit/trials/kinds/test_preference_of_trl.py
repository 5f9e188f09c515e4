"""The losses of preference pairs against TRL's own trainers, on the same models, batch and beta."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.chat_tokenizers import chat_tokenizer
from trials.kinds.kind import REFERENCE
from trials.kinds.preference import Preference
from trials.reading.encoding import IGNORED, Encoded

trl = pytest.importorskip("trl", reason="its trainers compute the expected losses")
BETA, MARGIN = 0.35, 0.6
TASK = {
    "type": "preference", "text": (), "prompt": "p", "chosen": "c", "rejected": "r", "chat_template": "none",
    "max_length": 40, "loss": "dpo",
}  # fmt: skip
ROWS = [
    {"p": "the user asks", "c": " an answer", "r": " what"},
    {"p": "what is", "c": " the weather in town", "r": " a tool and its answer"},
    {"p": "a call of a tool", "c": " answers", "r": " the weather is the weather"},
]
KIND = Preference()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return chat_tokenizer("")


@pytest.fixture(scope="module")
def models(tokenizer: Any) -> tuple[Any, Any]:
    """A model in training and another one as its reference."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)
    return LlamaForCausalLM(config).eval(), LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def examples(models: tuple[Any, Any], tokenizer: Any) -> list[Encoded]:
    encoded = [KIND.encode(row, TASK, tokenizer, None).example for row in ROWS]
    batch = KIND.collate(encoded, tokenizer)
    with torch.no_grad():
        columns = [column.numpy() for column in KIND.columns(models[1](**batch.inputs), batch.targets)]
    return [{**e, REFERENCE: r} for e, r in zip(encoded, KIND.reference(tuple(columns)), strict=True)]


def our_loss(
    model: Any, examples: list[Encoded], tokenizer: Any, loss: str, beta: float = BETA
) -> torch.Tensor:
    batch = KIND.collate(examples, tokenizer)
    values = {"loss": loss, "beta": beta, "margin": MARGIN}
    return KIND.losses(model(**batch.inputs), batch.targets, [values] * len(examples))


def parts(row: Encoded) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt and of the answer."""
    start = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    return row["input_ids"][:start], row["input_ids"][start:]


def trainer_of(
    trainer: Any, config: Any, models: tuple[Any, Any], tokenizer: Any, folder: Path, **options: Any
) -> Any:
    from datasets import Dataset

    rows = [{"prompt": row["p"], "chosen": row["c"], "rejected": row["r"]} for row in ROWS]
    reference = {} if options.pop("has_no_reference", False) else {"ref_model": models[1]}
    arguments = config(
        output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, beta=BETA, **options
    )
    return trainer(
        model=models[0],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        **reference,
    )


@pytest.mark.parametrize(("loss", "loss_type"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_losses_with_a_reference(
    loss: str, loss_type: str, models: Any, examples: list[Encoded], tokenizer: Any, tmp_path: Path
) -> None:
    trainer = trainer_of(trl.DPOTrainer, trl.DPOConfig, models, tokenizer, tmp_path, loss_type=[loss_type])
    rows = [KIND.rows(example) for example in examples]
    batch = trainer.data_collator(
        [
            {"prompt_ids": parts(better)[0], "chosen_ids": parts(better)[1], "rejected_ids": parts(worse)[1]}
            for better, worse in rows
        ]
    )
    with torch.no_grad():
        expected = trainer._compute_loss(models[0], batch, False)
        found = our_loss(models[0], examples, tokenizer, loss)
    assert float(found.mean()) == pytest.approx(float(expected), abs=1e-5)


def test_kto_on_pairs(models: Any, examples: list[Encoded], tokenizer: Any, tmp_path: Path) -> None:
    """TRL estimates one reference point from mismatched answers; here they are the other answers of the pairs."""
    from datasets import Dataset

    arguments = trl.KTOConfig(
        output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False, beta=BETA,
        per_device_train_batch_size=2, train_sampling_strategy="sequential",
    )  # fmt: skip
    rows = [{"prompt": row["p"], "completion": row["c"], "label": i % 2 == 0} for i, row in enumerate(ROWS)]
    trainer = trl.KTOTrainer(
        model=models[0],
        ref_model=models[1],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    expected = 0.0
    for side in (0, 1):
        batch = trainer.data_collator(
            [
                {
                    "prompt_ids": parts(pair[side])[0],
                    "completion_ids": parts(pair[side])[1],
                    "KL_completion_ids": parts(pair[1 - side])[1],
                    "label": side == 0,
                }
                for pair in map(KIND.rows, examples)
            ]
        )
        with torch.no_grad():
            expected += float(trainer._compute_loss(models[0], batch, False)) / 2
    with torch.no_grad():
        found = our_loss(models[0], examples, tokenizer, "kto")
    assert float(found.mean()) == pytest.approx(expected, abs=1e-5)


def of_older_trainers(examples: list[Encoded], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Return a batch as the trainers of trl.experimental read it."""
    batch = KIND.collate(examples, tokenizer)
    found = {}
    for place, side in enumerate(("chosen", "rejected")):
        found |= {f"{side}_{name}": tensor[place::2] for name, tensor in batch.inputs.items()}
        found[f"{side}_labels"] = batch.targets["labels"][place::2]
    return found


def test_simpo(models: Any, examples: list[Encoded], tokenizer: Any, tmp_path: Path) -> None:
    cpo = pytest.importorskip("trl.experimental.cpo")
    options = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": MARGIN, "has_no_reference": True}
    trainer = trainer_of(cpo.CPOTrainer, cpo.CPOConfig, models, tokenizer, tmp_path, **options)
    with torch.no_grad():
        expected, _ = trainer.get_batch_loss_metrics(models[0], of_older_trainers(examples, tokenizer))
        found = our_loss(models[0], examples, tokenizer, "simpo")
    assert float(found.mean()) == pytest.approx(float(expected), abs=1e-5)


def test_orpo(models: Any, examples: list[Encoded], tokenizer: Any, tmp_path: Path) -> None:
    """TRL's first term covers the prompt as well: it is subtracted, and that of the answer alone is added."""
    orpo = pytest.importorskip("trl.experimental.orpo")
    trainer = trainer_of(
        orpo.ORPOTrainer, orpo.ORPOConfig, models, tokenizer, tmp_path, has_no_reference=True
    )
    for example in examples:
        batch = of_older_trainers([example], tokenizer)
        with torch.no_grad():
            loss, metrics = trainer.get_batch_loss_metrics(models[0], batch)
            expected = float(loss) - metrics["nll_loss"] - metrics["logps/chosen"]
            found = our_loss(models[0], [example], tokenizer, "orpo")
        assert float(found.mean()) == pytest.approx(expected, abs=1e-5)
