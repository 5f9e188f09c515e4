"""Pre-train the base model of the pocket task: a small BERT, on docstrings that the task does not use.

    python -m trials.tasks.pocket.pretrain --out my-base --minutes 10

The objective is masked language modeling (Devlin et al. 2019, section 3.1; 20 % of the tokens instead of 15 %,
no next-sentence task). A few minutes on a CPU do not suffice to learn word meanings from random vectors, so the
embeddings start from the co-occurrences in the same text, and the output bias from the tokens' frequencies.

Rejected alternative: a second objective that matches the two halves of a text by their pooled vectors. It improves a
frozen head far more than an adapter, and so leaves little for adapters to improve.

Weights are trained in float32 and stored in float16. `config.json` sets float32, and `from_pretrained` loads in it.
"""

from __future__ import annotations

import argparse
import datetime
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForPreTraining,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from trials.tasks.pocket import base_folder
from trials.tasks.pocket.corpus import pretraining_texts

VOCABULARY, MAX_TOKENS, WINDOW = 6000, 64, 10
LAYERS, WIDTH, HEAD_WIDTH = 4, 96, 32
# BERT's 0.02 suits a width of 768; at 96 it leaves attention almost without effect for the first thousand steps.
INITIAL_STD = 0.08
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP, MASKED = 3600, 64, 1e-3, 0.01, 0.05, 0.2
HELD_OUT = 1000

Batch = dict[str, torch.Tensor]
Collate = Callable[[list[dict[str, list[int]]]], Batch]  # pads and masks


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a lower-case WordPiece tokenizer with BERT's special tokens and its format of one or two texts.

    Characters other than a-z and digits separate words and are dropped, which saves a fifth of the tokens.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[^a-z0-9]+"), "removed")
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, **dict(zip(names, special, strict=True))
    )


def association_vectors(ids: list[list[int]], vocabulary: int, width: int) -> np.ndarray:
    """Return initial vectors of the tokens, shape [vocabulary, width], from co-occurrences in the encoded texts.

    They are singular vectors of the positive pointwise mutual information within ten tokens, times the root of the
    singular values (Levy and Goldberg 2014, section 3.2), scaled to a mean square of one.
    """
    flat = np.concatenate([np.array(text + [-1] * WINDOW) for text in ids])
    counts = csr_matrix((vocabulary, vocabulary))
    for distance in range(1, WINDOW + 1):
        left, right = flat[:-distance], flat[distance:]
        both = (left >= 0) & (right >= 0)
        counts += csr_matrix((np.ones(both.sum()), (left[both], right[both])), shape=counts.shape)
    pairs = (counts + counts.T).tocoo()
    totals = np.asarray(pairs.sum(axis=0)).ravel()
    information = np.log(pairs.data * totals.sum() / (totals[pairs.row] * totals[pairs.col]))
    positive = csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=counts.shape)
    vectors, values, _ = svds(positive, k=width, random_state=0)
    vectors = vectors * np.sqrt(values)
    return vectors / np.sqrt((vectors**2).mean())


def build_model(ids: list[list[int]], vocabulary: int) -> BertForPreTraining:
    """Build the encoder with its language-modeling head, initialized from statistics of the encoded texts.

    There is no dropout: a model of this size does not overfit in the available time, here or in a trial.
    """
    config = BertConfig(
        vocab_size=vocabulary, num_hidden_layers=LAYERS, hidden_size=WIDTH, intermediate_size=4 * WIDTH,
        num_attention_heads=WIDTH // HEAD_WIDTH, max_position_embeddings=MAX_TOKENS,
        initializer_range=INITIAL_STD, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForPreTraining(config)
    frequency = np.bincount(np.concatenate(ids), minlength=vocabulary) + 0.1
    vectors = INITIAL_STD * association_vectors(ids, vocabulary, WIDTH)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors))
        model.bert.embeddings.position_embeddings.weight *= 0.3  # words first, order second
        model.cls.predictions.bias.copy_(torch.from_numpy(np.log(frequency / frequency.sum())))
    return model


def batches(lengths: list[int], rng: random.Random) -> Iterator[list[int]]:
    """Yield batches of indices of texts of similar length endlessly, in random order, each text once per pass."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), 50 * BATCH):
            pool = sorted(order[start : start + 50 * BATCH], key=lambda i: lengths[i])
            chunks = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
            rng.shuffle(chunks)
            yield from chunks


def masked_loss(model: BertForPreTraining, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy in nats of each masked token of the batch, and whether its prediction is correct."""
    hidden = model.bert(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    masked = batch["labels"] != -100
    logits = model.cls.predictions(hidden[masked])  # [masked tokens, vocabulary]
    targets = batch["labels"][masked]
    return functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


def learning_rate(progress: float) -> float:
    """Return the learning rate: linear warm-up, then cosine decay to zero; `progress` is in [0, 1]."""
    if progress < WARM_UP:
        return LEARNING_RATE * progress / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def train(
    model: BertForPreTraining, ids: list[list[int]], collate: Collate, minutes: float, seed: int
) -> int:
    """Train for `STEPS` steps or about `minutes`, whichever ends first, and return the number of steps."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    order = batches([len(text) for text in ids], random.Random(seed))
    start, step, progress = time.monotonic(), 0, 0.0
    with Progress() as bar:
        task = bar.add_task("pre-training", total=1.0)
        while progress < 1:
            batch = collate([{"input_ids": ids[i]} for i in next(order)])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(progress)
            loss = masked_loss(model, batch)[0].mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            # Where time is short the whole schedule is run faster, rather than cut off at a high learning rate.
            progress = max(step / STEPS, (time.monotonic() - start) / (60 * minutes))
            bar.update(task, completed=progress, description=f"loss {loss.item():.2f}")
    return step


@torch.no_grad()
def evaluate(model: BertForPreTraining, ids: list[list[int]], collate: Collate) -> tuple[float, float]:
    """Return the mean loss in nats and the accuracy over the masked tokens of held-out texts."""
    torch.manual_seed(0)  # the same masks in every run
    results = []
    for start in range(0, len(ids), BATCH):
        batch = collate([{"input_ids": text} for text in ids[start : start + BATCH]])
        results.append(masked_loss(model, batch))
    losses, hits = (torch.cat(part).float() for part in zip(*results, strict=True))
    return losses.mean().item(), hits.mean().item()


def save(model: BertForPreTraining, tokenizer: PreTrainedTokenizerFast, folder: Path, facts: str) -> None:
    """Write encoder and pooler in float16, the tokenizer and a model card, in the format of `from_pretrained`."""
    model.bert.half().save_pretrained(folder)
    config = BertConfig.from_pretrained(folder)
    config.dtype = "float32"  # the dtype of loading; float16 is for the disk only
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD + facts, encoding="utf-8")


CARD = f"""---
license: apache-2.0
language: en
---

# The base model of the pocket task

A BERT-shaped encoder ({LAYERS} layers, width {WIDTH}, heads of {HEAD_WIDTH}), pre-trained with masked language
modeling on docstrings by `python -m trials.tasks.pocket.pretrain`. The text was read, with `ast`, from the sources
of the Python standard library and of packages installed beside this project, and cleaned as
`trials/tasks/pocket/corpus.py` says. Only the half of the texts whose hash falls in the part "pretrain" was
used; the task is made from the rest.

It exists so that a sweep can be tried without a network, in minutes, on a processor. It is of no other use.

* Load with `AutoTokenizer.from_pretrained(folder)` and `AutoModelForSequenceClassification.from_pretrained(folder,
  num_labels=k)`. Weights are stored in float16 and load as float32, as `config.json` says.
* The pooler is as initialized: no objective used it. At most {MAX_TOKENS} tokens; no dropout.
* The tokenizer is lower-case WordPiece; whatever is not a letter a-z or a digit separates words and is dropped.
* Licence: Apache-2.0.

"""


def main() -> None:
    """Run the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description="Pre-train the base model of the pocket task.")
    parser.add_argument(
        "--out", type=Path, default=base_folder(), help="folder to write (default: the shipped one)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="longest training time (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    texts = pretraining_texts()
    tokenizer = train_tokenizer(texts[HELD_OUT:])
    ids = tokenizer(texts, truncation=True)["input_ids"]
    held_out, ids = ids[:HELD_OUT], ids[HELD_OUT:]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    model = build_model(ids, len(tokenizer))
    before = evaluate(model, held_out, collate)
    torch.manual_seed(arguments.seed)
    start = time.monotonic()
    steps = train(model, ids, collate, arguments.minutes, arguments.seed)
    minutes = (time.monotonic() - start) / 60
    loss, accuracy = evaluate(model, held_out, collate)

    parameters = sum(weight.numel() for weight in model.bert.parameters())
    facts = (
        f"* {parameters:,} parameters, {len(tokenizer):,} tokens of vocabulary; {len(ids):,} texts of "
        f"{sum(map(len, ids)) / len(ids):.1f} tokens.\n"
        f"* {steps:,} steps of {BATCH} texts ({steps * BATCH / len(ids):.1f} passes), AdamW, peak learning rate "
        f"{LEARNING_RATE:g}, {MASKED:.0%} masked, seed {arguments.seed}, "
        f"{minutes:.1f} minutes on {arguments.threads} threads.\n"
        f"* On {len(held_out):,} held-out texts: loss {loss:.3f} nats and accuracy {accuracy:.1%} over masked tokens "
        f"(before training {before[0]:.3f} and {before[1]:.1%}).\n"
        f"* Made on {datetime.date.today().isoformat()}.\n"
    )
    save(model, tokenizer, arguments.out, facts)
    print(facts)


if __name__ == "__main__":
    main()
