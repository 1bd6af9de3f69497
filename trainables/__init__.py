"""The training core: data, models, losses, defences and attacks; one trial trains a candidate and attacks it.

It needs torch alone, and runs without Ray, Optuna and MLflow.
"""

# The settings and the registry use each other. Whoever comes first, the settings must be loaded before the registry.
import trainables.settings  # noqa: F401
