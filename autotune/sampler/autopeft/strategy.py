"""Strategy `autopeft`, after Zhou, Wan, Vulić and Korhonen (2024), "AutoPEFT: Automatic configuration search for
parameter-efficient fine-tuning", section 3.2.

One sparse Gaussian process (SAAS) per uncertain objective, noisy expected hypervolume improvement, batches of four
that are chosen greedily given the earlier members, and a local search from neighbors of the front. Differences:

* known costs, such as the number of trained parameters, are functions and have no model;
* the hyperparameters are the maximum a posteriori at four values of the global shrinkage; with the surrogate
  `saas-bayesian` they are samples from the posterior as in the paper, which takes tens of seconds per fit;
* objectives keep their units; the normal copula of the paper is an option (`copula.py` has the reason).
"""

from __future__ import annotations

import numpy as np

from autotune.sampler.autopeft.batch import Batch, BatchData
from autotune.sampler.autopeft.local_search import local_search
from autotune.sampler.autopeft.posterior import BatchPosterior, Fit, ModelSettings
from autotune.sampler.proposal import Proposer
from autotune.sampler.strategies import StrategySettings
from search_spaces.parameters.types import Configuration
from surrogates.gaussian_processes.saas import SaasEnsemble
from surrogates.gaussian_processes.saas_bayesian import fit_bayesian_saas

_BATCH = 4
_SMOOTH_EVALUATIONS = 500
_FITS: dict[str, Fit] = {
    "auto": SaasEnsemble.fit,
    "saas": SaasEnsemble.fit,
    "saas-bayesian": fit_bayesian_saas,
}


class AutopeftStrategy:
    """Proposes the members of a batch one after another."""

    def __init__(self, settings: StrategySettings) -> None:
        copula = bool(settings.options.get("copula", False))
        self._models = ModelSettings(_FITS[settings.surrogate], settings.n_startup, copula)

    def propose(self, proposer: Proposer) -> Configuration:
        """Return the best configuration of the local search, given the data and the earlier members of the batch."""
        batch = Batch.next(proposer.memory, proposer.number, _BATCH)
        data = BatchData.of(proposer.history, batch)
        posterior = BatchPosterior(proposer, data, self._models, batch.fit)
        proposer.notes["batch"] = batch.stored(posterior.hyperparameters)
        seed = int(proposer.rng.integers(2**31))
        found = local_search(proposer, posterior.score(seed), posterior.front_rows)
        if not np.isfinite(found.score):  # no sample improves next to the front
            score = posterior.score(seed, is_smooth=True)
            found = local_search(proposer, score, posterior.front_rows, max_evaluations=_SMOOTH_EVALUATIONS)
        return found.current.configs[0]
