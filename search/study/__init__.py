"""The account of a sweep, kept in Optuna's studies, and everything that decides what is trained next.

The ledger hands out units (a setting and a seed) and takes their results; samplers suggest settings, halving stops
trials early, criteria end the search, and a lease keeps two drivers apart. Only this package imports optuna.
"""

from search.study.due import Counts as Counts
from search.study.halving import Halving as Halving
from search.study.halving import make_halving as make_halving
from search.study.lease import Holder as Holder
from search.study.lease import Lease as Lease
from search.study.lease import holder as holder
from search.study.ledger import Ledger as Ledger
from search.study.ledger import open_ledger as open_ledger
from search.study.ledger import read_records as read_records
from search.study.storage import STORAGE_ERRORS as STORAGE_ERRORS
from search.study.storage import check_free as check_free
from search.study.storage import may_pass as may_pass
from search.study.storage import open_storage as open_storage
from search.study.storage import storage_reason as storage_reason
from search.study.trials import EarlierTrial as EarlierTrial
from search.study.trials import Unit as Unit
from search.study.warm_start import read_warm_start as read_warm_start
from search.study.warm_start import with_lasting_paths as with_lasting_paths
