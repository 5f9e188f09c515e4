"""Pre-train the base of the pocket task: a small BERT on the half of the docstrings that the task never uses.

    python -m trials.pocket.pretrain --out trials/pocket/base

Two objectives share one encoder and alternate step by step:

* masked language modelling on whole texts (Devlin et al. 2019, section 3.1; a quarter of the tokens instead of 15 %,
  without the next-sentence task);
* on texts cut in two, masked language modelling on both halves, and telling from the pooled [CLS] vectors which
  halves belong together (InfoNCE over the batch: van den Oord et al. 2018, equation 4), so that a classification
  head on the pooled vector has something to read from the start.

Weights are trained in float32 and stored in float16. `config.json` says float32, and `from_pretrained` follows it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
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

from trials.pocket import base_folder
from trials.pocket.corpus import pretraining_texts

VOCABULARY, MAX_TOKENS = 6000, 64
WIDTH, LAYERS, HEAD_WIDTH, INIT = 96, 4, 32, 0.08
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2400, 16, 2e-3, 0.01, 0.05
MASKED, TEMPERATURE, WINDOW = 0.25, 0.05, 10
HELD_OUT = 1000
"""Texts that are kept back for the model card's figures."""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece tokenizer with BERT's special tokens and layout of one or two texts."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[^a-z0-9]+"), "removed")
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=VOCABULARY, special_tokens=special, limit_alphabet=200, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def build_model(vocabulary: int) -> BertForPreTraining:
    """Four layers of width 96 with heads of 32; no dropout, since so small a model does not overfit here."""
    return BertForPreTraining(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=WIDTH // HEAD_WIDTH,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=MAX_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=INIT,
            dtype="float32",
        )
    )


def association_vectors(ids: list[list[int]], vocabulary: int, width: int) -> torch.Tensor:
    """Vectors [vocabulary, width] of the tokens, from which tokens stand near which in the encoded texts.

    Singular vectors of positive pointwise mutual information within ten tokens, times the root of the singular
    values (Levy and Goldberg 2014, equation 10), scaled to a mean square of one.
    """
    flat = np.concatenate([np.array(text + [-1] * WINDOW) for text in ids])
    counts = csr_matrix((vocabulary, vocabulary))
    for distance in range(1, WINDOW + 1):
        left, right = flat[:-distance], flat[distance:]
        both = (left >= 0) & (right >= 0)
        counts += csr_matrix((np.ones(both.sum()), (left[both], right[both])), shape=counts.shape)
    counts = (counts + counts.T).tocoo()
    marginal = np.asarray(counts.sum(axis=0)).ravel()
    information = np.log(counts.data * marginal.sum() / (marginal[counts.row] * marginal[counts.col]))
    positive = csr_matrix((np.maximum(information, 0), (counts.row, counts.col)), shape=counts.shape)
    left_vectors, values, _ = svds(positive, k=width, rng=0)
    vectors = left_vectors * np.sqrt(values)
    return torch.tensor(vectors / np.sqrt((vectors**2).mean()), dtype=torch.float32)


def batches(lengths: list[int], rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of indices of texts of like length, in random order."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), 50 * BATCH):
            pool = sorted(order[start : start + 50 * BATCH], key=lambda i: lengths[i])
            chunks = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
            rng.shuffle(chunks)
            yield from (chunk for chunk in chunks if len(chunk) == BATCH)


def masked_loss(
    model: BertForPreTraining, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean cross-entropy in nats over masked tokens, the share predicted right, and pooled vectors [n, width]."""
    out = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    chosen = batch["labels"] != -100
    logits = model.cls.predictions(out.last_hidden_state[chosen])  # [masked tokens, vocabulary]
    targets = batch["labels"][chosen]
    hits = (logits.argmax(-1) == targets).float().mean()
    return functional.cross_entropy(logits.float(), targets), hits, out.pooler_output


def matching_loss(pooled: torch.Tensor) -> torch.Tensor:
    """InfoNCE in nats, both ways, where rows 2i and 2i + 1 of [2n, width] are halves of one text."""
    unit = functional.normalize(pooled.float(), dim=-1)
    scores = unit[0::2] @ unit[1::2].T / TEMPERATURE  # [n, n]
    target = torch.arange(len(scores))
    return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2


def halves(text: str) -> list[str]:
    """The first and the second half of a text, by words."""
    words = text.split()
    middle = len(words) // 2
    return [" ".join(words[:middle]), " ".join(words[middle:])]


def learning_rate(progress: float) -> float:
    """Linear warm-up, then a cosine to zero; `progress` runs from 0 to 1."""
    if progress < WARM_UP:
        return LEARNING_RATE * progress / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def start_from_associations(model: BertForPreTraining, ids: list[list[int]]) -> None:
    """Word embeddings from `association_vectors`, and the output's bias from the frequency of each token.

    It saves the hours that so small a model would need to find out which words go together.
    """
    vocabulary = model.config.vocab_size
    with torch.no_grad():
        vectors = association_vectors(ids, vocabulary, model.config.hidden_size)
        model.bert.embeddings.word_embeddings.weight[:] = INIT * vectors
        model.bert.embeddings.position_embeddings.weight *= 0.3
        tokens = torch.tensor([token for text in ids for token in text])
        frequency = torch.bincount(tokens, minlength=vocabulary) + 0.1
        model.cls.predictions.bias[:] = (frequency / frequency.sum()).log()


def pretrain(
    texts: list[str], minutes: float, seed: int
) -> tuple[BertForPreTraining, PreTrainedTokenizerFast, dict[str, float]]:
    """Train on all but the first `HELD_OUT` texts, for `STEPS` steps or `minutes`, whichever ends first.

    Returns:
        the model, its tokenizer, and figures: `steps`, and on the held-out texts `loss` and `accuracy` of the
        masked tokens (nats, share).
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    held_out, texts = texts[:HELD_OUT], texts[HELD_OUT:]
    tokenizer = train_tokenizer(texts)
    model = build_model(len(tokenizer))
    start_from_associations(model, tokenizer(texts, add_special_tokens=False, truncation=True)["input_ids"])
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)

    def encode(some: list[str]) -> dict[str, torch.Tensor]:
        return collate([{"input_ids": ids} for ids in tokenizer(some, truncation=True)["input_ids"]])

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    order = batches([len(text) for text in texts], rng)
    start, step = time.monotonic(), 0
    with Progress() as bar:
        task = bar.add_task("pre-training", total=1.0)
        while (progress := max(step / STEPS, (time.monotonic() - start) / 60 / minutes)) < 1:
            chosen = [texts[i] for i in next(order)]
            in_halves = step % 2 == 1
            batch = encode([half for text in chosen for half in halves(text)] if in_halves else chosen)
            loss, _, pooled = masked_loss(model, batch)
            if in_halves:
                loss = loss + matching_loss(pooled)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(progress)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            bar.update(task, completed=progress, description=f"loss {loss.item():.2f}")
    model.eval()
    with torch.no_grad():
        loss, hits, _ = masked_loss(model, encode(held_out))
    return model, tokenizer, {"steps": step, "loss": float(loss), "accuracy": float(hits)}


def save(model: BertForPreTraining, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The encoder with its pooler in float16, to be loaded in float32, and the tokenizer."""
    model.bert.half().save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")
    tokenizer.save_pretrained(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train the base of the pocket task.")
    parser.add_argument("--out", type=Path, default=base_folder(), help="where model and tokenizer are saved")
    parser.add_argument("--minutes", type=float, default=15.0, help="time limit")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = pretraining_texts()
    print(f"{len(texts):,} texts, {sum(len(text.split()) for text in texts):,} words")
    model, tokenizer, figures = pretrain(texts, options.minutes, options.seed)
    save(model, tokenizer, options.out)
    print(
        f"{figures['steps']:.0f} steps; held-out masked tokens: loss {figures['loss']:.3f} nats, "
        f"accuracy {figures['accuracy']:.3f}"
    )


if __name__ == "__main__":
    main()
