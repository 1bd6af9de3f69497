"""Random search: draws every parameter at random and learns from nothing."""

from optuna.samplers import RandomSampler

from search.study.samplers import Sampler

SAMPLER = Sampler(
    make=lambda _config, _number, seed: RandomSampler(seed=seed),
    source="Bergstra, Bengio 2012: Random search for hyper-parameter optimization. JMLR 13",
)
