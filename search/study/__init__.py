"""The account of a sweep, kept in Optuna's studies, and everything that decides what is trained next.

The ledger hands out units (a setting and a seed) and takes their results; samplers suggest settings, halving stops
trials early, criteria end the search, and a lease keeps two drivers apart. Only this package imports optuna.
"""

from search.study.dashboard import serve_dashboard
from search.study.due import Counts
from search.study.foreign import read_study
from search.study.halving import Halving, make_halving
from search.study.importance import importances
from search.study.lease import Holder, Lease, holder
from search.study.ledger import Ledger, open_ledger, read_records
from search.study.storage import STORAGE_ERRORS, check_free, may_pass, open_storage, storage_reason
from search.study.trials import EarlierTrial, Unit
from search.study.warm_start import read_warm_start, with_lasting_paths

__all__ = [
    "STORAGE_ERRORS",
    "Counts",
    "EarlierTrial",
    "Halving",
    "Holder",
    "Lease",
    "Ledger",
    "Unit",
    "check_free",
    "holder",
    "importances",
    "make_halving",
    "may_pass",
    "open_ledger",
    "open_storage",
    "read_records",
    "read_study",
    "read_warm_start",
    "serve_dashboard",
    "storage_reason",
    "with_lasting_paths",
]
