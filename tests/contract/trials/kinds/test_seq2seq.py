"""Encoder-decoders: the loss of transformers' own trainer, the model's own shift, and generated text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import InvalidInputError
from tests.support.packs import agree, alone, packed, spec
from tests.support.task_samples import task_sample
from trials.execution.runner import Runner
from trials.kinds.generation import Generation
from trials.kinds.registry import find_kind
from trials.kinds.seq2seq import shifted
from trials.reading.encoding import PROMPT
from trials.reading.special_tokens import match_tokens
from trials.tasks.generation_spec import GenerationSpec
from trials.tasks.specs import TaskSpec

NEW = 6


@pytest.fixture(scope="module", params=["t5", "bart"])
def runner(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runner:
    model, task = task_sample("seq2seq", tmp_path_factory.mktemp("data"), tiny_model)
    section = GenerationSpec(max_new_tokens=NEW, samples=12, metrics=("exact_match", "chrf"))
    model = model.model_copy(update={"name": str(tiny_model(request.param))})
    return Runner(model, task.model_copy(update={"generation": section, "metric": "chrf"}))


def test_the_loss_is_that_of_seq2seq_trainer(runner: Runner, tmp_path: Path) -> None:
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    examples, tokenizer = runner.data.splits["train"][:8], runner.data.tokenizer
    plain = [{name: e[name] for name in ("input_ids", "attention_mask", "labels")} for e in examples]
    trainer = Seq2SeqTrainer(
        model=runner.base.model,
        args=Seq2SeqTrainingArguments(
            str(tmp_path), per_device_eval_batch_size=8, use_cpu=True, report_to="none"
        ),
        eval_dataset=plain,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=runner.base.model),
    )
    reference = trainer.evaluate()["eval_loss"]
    kind = find_kind("seq2seq")
    batch = kind.collate(examples, tokenizer)
    with torch.no_grad():
        losses = kind.losses(runner.base.model.eval()(**batch.inputs), batch.targets)
    assert float(losses.sum()) / sum(map(kind.target_count, examples)) == pytest.approx(reference, rel=1e-5)


def test_labels_are_shifted_as_by_the_model(runner: Runner) -> None:
    labels = torch.tensor([[5, 6, 3], [7, 3, -100]])
    own = runner.base.model.prepare_decoder_input_ids_from_labels(labels=labels)
    assert shifted(labels, runner.data.tokenizer).tolist() == own.tolist()


def test_the_shift_of_mbart_begins_with_the_last_label() -> None:
    from transformers import MBartConfig, MBartForConditionalGeneration

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = MBartConfig(
        vocab_size=20, d_model=8, pad_token_id=1, max_position_embeddings=16, **sizes, **heads
    )
    model = MBartForConditionalGeneration(config)

    class Tokenizer:
        pad_token_id, eos_token_id = 1, 2

    tokenizer: Any = Tokenizer()
    match_tokens(model, tokenizer)
    labels = torch.tensor([[5, 6, 2, 9], [7, 2, 9, -100]])
    own = model.prepare_decoder_input_ids_from_labels(labels=labels)
    assert shifted(labels, tokenizer).tolist() == own.tolist()


def test_batches_with_a_cache_generate_what_a_plain_loop_does(runner: Runner) -> None:
    examples = runner.data.splits["validation"]
    model = runner.base.adapted(spec(runner, "lora").config, 1).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    section = GenerationSpec(max_new_tokens=NEW, samples=1.0, batch_size=5).model_dump()
    generation = Generation(section, runner.data.tokenizer, True, examples)
    texts: dict[int, str] = {}
    for indices in generation.batches(model):
        texts |= dict(zip(indices, generation.generate(model, indices), strict=True))
    stops = generation._stops(model.get_base_model().generation_config.eos_token_id)
    start = runner.data.tokenizer.decoder_start
    for index, example in enumerate(examples):
        ids = [start]
        while len(ids) <= NEW:
            inputs = {"input_ids": torch.tensor([example[PROMPT]]), "decoder_input_ids": torch.tensor([ids])}
            with torch.no_grad():
                token = int(model(**inputs).logits[0, -1].argmax())
            if token in stops:
                break
            ids.append(token)
        assert texts[index] == runner.data.tokenizer.decode(ids[1:], skip_special_tokens=True)


@pytest.mark.parametrize("family", ["lora", "ia3", "serial"])
def test_a_pack_trains_and_generates_what_is_trained_alone(runner: Runner, family: str) -> None:
    chosen = spec(runner, family, 3, epochs=1)
    one, (together,) = alone(runner, chosen), packed(runner, [chosen])
    agree(together, one)
    assert together.metrics["chrf"] == one.metrics["chrf"]


def test_prompts_and_completions_have_limits_of_their_own(runner: Runner) -> None:
    tokenizer, kind = runner.data.tokenizer, find_kind("seq2seq")
    task = {**runner.data.fields, "max_length": 4, "max_target_length": 3, "generation": None}
    found = kind.encode(
        {"question": "good film the was a", "answer": "a story the was"}, task, tokenizer, None
    )
    assert [len(found.example[name]) for name in ("input_ids", "labels")] == [4, 3]
    assert found.example["labels"][-1] == tokenizer.eos_token_id
    assert (found.full_length, found.full_targets) == (7, 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "p"}, "task.completion: missing"),
        ({"prompt": "p", "completion": "c", "messages": "m"}, "task.messages: is not for seq2seq"),
        ({"text": "t", "label": "l"}, "task.prompt: missing"),
    ],
)
def test_refused_fields(fields: dict[str, str], message: str) -> None:
    with pytest.raises((InvalidInputError, ValueError), match=message):
        TaskSpec(type="seq2seq", train="t.jsonl", **fields)
