"""What runs as a Ray task: the audit of a trial, and the examination of a node before its first trial.

Test images are not read. A node's copy of them matters to nobody, since only the driver ever opens the test split.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cluster.nodes import Examined, Expected, authentication, sha256
from search.cluster.token import token_file
from search.errors import Halted, UserError
from search.results.audits import audit_model, summary_of
from search.runs.checkpoints import Checkpoint
from search.runs.layout import AUDITS
from search.runs.provenance import source_digest, versions
from search.runs.store import Store
from trainables.data.partition.pool import read_pool

if TYPE_CHECKING:
    from trainables.data.splits import Split


def audit_trial(
    checkpoint: str, profile: str, threads: int, cuda: bool, splits: Mapping[str, Split] | None = None
) -> dict[str, Any]:
    """Audits a trial in this process, unless that has been done before; gives a summary as ``Ledger.audited`` takes it.

    ``checkpoint`` is the path of the trial's folder of checkpoints, or its URL. ``cuda`` says whether to use a GPU: Ray
    leaves GPUs visible to a task that it has given none. ``splits`` are those that this process has loaded already.
    """
    import torch

    torch.set_num_threads(threads)
    trained = Checkpoint.find(checkpoint, Path())
    folder = trained.place(AUDITS)
    document = audit_model(trained, trained.config, folder, profile_name=profile, cuda=cuda, splits=splits)
    trained.share(folder)
    return summary_of(document)


def examine(expected: Expected) -> Examined:
    """Compares the node on which this runs with the driver's.

    The data set is found, and downloaded or parsed if it must be: trials find it in the node's own cache.
    """
    problems = [
        f"{name} is {version}, and {expected.versions[name]} on the driver's node"
        for name, version in versions().items()
        if version != expected.versions[name]
    ]
    if source_digest(expected.user_code) != expected.source:
        problems.append("the source of robustfront or of your own components is not the driver's")
    if authentication() != expected.authentication:
        problems.append(
            f"its Ray has RAY_AUTH_MODE {authentication()}, the driver {expected.authentication} (token, if there is a "
            f"{token_file()}): set both to the same before you start them"
        )
    location = "nowhere"
    try:
        reader = expected.data.dataset.reader(expected.data.root)
        location = reader.location
        digest = read_pool(expected.data, reader).digest()
    except ValueError as error:
        problems.append(str(error))
    else:
        if digest != expected.digest:
            problems.append(f"{expected.data.name} from {location} is not the data that the driver has")
    if expected.store is None:
        problems += _folder_problems(Path(expected.marker), expected.marker_digest)
    else:
        problems += _store_problems(Store(expected.store), expected.marker, expected.marker_digest)
    if expected.tracking is not None:
        problems += _tracking_problems(expected.tracking)
    return Examined(tuple(problems), location, _gpus() if expected.inspect_gpu else (), time.time())


def _folder_problems(marker: Path, digest: str) -> list[str]:
    """What is wrong if the driver's folder is not this node's too, or cannot be written to."""
    remedy = "give --runs-dir a folder that all nodes share, e.g. one on NFS"
    try:
        content = marker.read_bytes()
    except OSError:
        return [f"it does not have {marker.parent}, which the driver has: {remedy}"]
    if sha256(content) != digest:
        return [f"its {marker.parent} is not the driver's folder: {remedy}"]
    own = marker.with_name(f"{marker.name}.{uuid.uuid4().hex}")
    try:
        own.write_bytes(b"")
        own.unlink()
    except OSError as error:
        return [f"it cannot write to {marker.parent} ({error.strerror}); give user {os.getuid()} write access"]
    return []


def _store_problems(store: Store, marker: str, digest: str) -> list[str]:
    """What is wrong if this node does not reach the driver's store, or cannot write to it."""
    try:
        store.check()
        content = store.read(marker)
    except (UserError, Halted) as error:
        return [str(error)]
    return [] if content is not None and sha256(content) == digest else [f"its {store.url} is not the driver's"]


def _tracking_problems(uri: str) -> list[str]:
    import requests

    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=10).status_code
    except requests.RequestException as error:
        return [f"MLflow does not answer it ({type(error).__name__})"]
    return [] if status == requests.codes.ok else [f"MLflow answers it with {status}"]


def _gpus() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
