"""The training core: data, models, losses, attacks, training and audits. Runs without Ray, Optuna and MLflow."""

# Settings hold components and components check their values with the modules of settings. Loaded in this order, the two
# packages find each other, whichever module of trainables is asked for first.
import trainables.settings  # noqa: F401
