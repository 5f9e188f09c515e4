"""Hypervolume gap against the number of trials on the FCNet tables: this project's samplers and others.

    python -m benchmarks.sample_efficiency --arms pareto gp --seeds 12 --trials 60 --cache runs.jsonl [--label NAME]
    python -m benchmarks.sample_efficiency --report runs.jsonl more.jsonl [--write]

The tables and two of the other samplers need `pip install -c constraints.txt ".[benchmarks]"`.

The gap is 1 - HV / HV* of the noise-free values of the configurations tried; `benchmarks.fcnet` has the objectives
and the reference point, `benchmarks.sampler_arms` the samplers. Each (arm, data set, seed) is one line of the cache;
a run that the cache already has with as many trials is not repeated. With `--label`, arms are called ARM@NAME, to
compare several versions of a sampler; `--options '{"n_startup": 5}'` sets arguments of `ParetoSampler`.
Ratios are over the (data set, seed) pairs that both arms have. `--only` chooses the arms of a report, and
`--first-seed 12 --seeds 12` other seeds than those that a setting was chosen on.
"""

from __future__ import annotations

from functools import partial

from benchmarks import fcnet
from benchmarks.sampler_comparison import main

PAGE = "sample-efficiency"

if __name__ == "__main__":
    assert __doc__ is not None
    main(
        __doc__.splitlines()[0],
        {name: partial(fcnet.problem, name) for name in fcnet.DATA_SETS},
        PAGE,
        trials=100,
    )
