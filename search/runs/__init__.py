"""A run on disk: its folder, the object store that may hold it, its checkpoints, and what its numbers depend on.

``dataset`` is not re-exported: it reads test images for their digest, and workers import this package.
"""

from search.runs.checkpoints import RESULT_FILE, SURROGATE, TRAIN_FILE, Checkpoint
from search.runs.folder import (
    ARTIFACTS,
    MANIFEST_FILE,
    RUNS_DIR,
    SWEEP_FILE,
    Run,
    command,
    default_tracking_uri,
    relative,
    runs_folder,
)
from search.runs.provenance import OWN_PACKAGES, make_manifest, source_digest, versions
from search.runs.store import CHECKPOINTS, Store, is_url, located, no_ledger, retrying, store_of
from search.runs.user_code import UserModule, import_paths, user_modules

__all__ = [
    "ARTIFACTS",
    "CHECKPOINTS",
    "MANIFEST_FILE",
    "OWN_PACKAGES",
    "RESULT_FILE",
    "RUNS_DIR",
    "SURROGATE",
    "SWEEP_FILE",
    "TRAIN_FILE",
    "Checkpoint",
    "Run",
    "Store",
    "UserModule",
    "command",
    "default_tracking_uri",
    "import_paths",
    "is_url",
    "located",
    "make_manifest",
    "no_ledger",
    "relative",
    "retrying",
    "runs_folder",
    "source_digest",
    "store_of",
    "user_modules",
    "versions",
]
