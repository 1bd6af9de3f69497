"""The names of a run's files and folders, apart from those that one module alone knows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RUNS_DIR: Final = Path("runs")

# In the runs folder, shared by all runs.
TRACKING_DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "mlartifacts"  # of MLflow, when it records into the database above

# In a run's folder. Folders hold one entry per trial, named after its number.
SWEEP_FILE: Final = "sweep.yaml"
IMPORT_FILE: Final = "import.yaml"  # of an imported run, in the place of sweep.yaml
UNITS_FILE: Final = "units.json"  # of an imported run, in the place of the ledger
MANIFEST_FILE: Final = "manifest.json"
LEDGER_FILE: Final = "study.db"
TABLE_FILE: Final = "trials.csv"
SETTINGS_FILE: Final = "settings.parquet"
FRONT_FILE: Final = "pareto.yaml"
ANSWER_FILE: Final = "answer.json"
REPORT_FILE: Final = "report.html"
LEADERBOARD_FILE: Final = "leaderboard.json"  # in a comparison's folder
FIGURES: Final = "figures"
CHECKPOINTS: Final = "checkpoints"  # the largest folder: an object store's is copied trial by trial
OUTCOMES: Final = "outcomes"
AUDITS: Final = "audits"
AUDIT_FILE: Final = "audit.json"  # in an audit's folder, as is the next
AUDIT_ARRAYS: Final = "audit.npz"
SURROGATE: Final = "B0"  # the number of the first baseline, from which an audit borrows adversarial examples

# In the folder of a training by ``robustfront train``.
TRAIN_FILE: Final = "train.yaml"
RESULT_FILE: Final = "result.json"
OUTCOMES_FILE: Final = "outcomes.npz"

# In a folder that is a copy of an object store's: the URL of the original.
REMOTE_FILE: Final = ".remote"
