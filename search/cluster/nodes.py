"""The nodes of a cluster: does every one of them run this code, read the same data, and see the run's folder?

A driver examines them all before the first trial, and those that join later as they come. A worker examines its own
node before its first trial: what joined a moment ago may be given one before the driver has looked.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from search.cluster.token import token_file
from search.errors import Halted, UserError, cause_on_worker
from search.runs.store import Store, store_of
from trainables.settings import DataSettings

PACKAGES: Final = ("ray", "torch", "torchvision", "optuna", "torchattacks", "mlflow", "numpy")
_SHIPPED: Final = ("search", "trainables", "analysis")
_EXAMINE_SECONDS: Final = 180.0  # a node may have to import Ray from a slow disk and parse its data set
_LOOK_SECONDS: Final = 2.0
_CLOCK_SECONDS: Final = 10.0  # a lease lasts 60 s: clocks that differ by a good part of that let two drivers hold one


@dataclass(frozen=True)
class Expected:
    """What every node has to have as the driver has it.

    Args:
        versions: Of Python and of the packages that numbers depend on.
        source: ``source_digest()``.
        data: Where the data set is looked for, and its sizes.
        digest: The data set's SHA-256.
        marker: A file that the driver has written into the run's folder, or beside it: its path.
        marker_digest: The SHA-256 of its contents.
        inspect_gpu: Whether torch is asked for its GPUs (seconds: it has to be imported).
        authentication: Ray's, ``token`` or ``disabled``: a driver that wants the token hears no worker without it.
        store: URL of the runs where they are in an object store; the marker's path is relative to it then.
        tracking: An MLflow server that is to answer; None where only the driver's own files are written.
    """

    versions: Mapping[str, str]
    source: str
    data: DataSettings
    digest: str
    marker: str
    marker_digest: str
    authentication: str
    store: str | None = None
    inspect_gpu: bool = False
    tracking: str | None = None


@dataclass(frozen=True)
class Examined:
    """What one node has. ``location`` says where it has the data from, ``gpus`` what torch calls its GPUs."""

    problems: tuple[str, ...]
    location: str
    gpus: tuple[str, ...]
    clock: float


@dataclass(frozen=True)
class Node:
    """A node as Ray knows it: its identity, its address, its processors and its GPUs."""

    identity: str
    address: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.address} ({self.cpus:g} processors, {self.gpus:g} GPUs)"


def alive() -> list[Node]:
    """The nodes that can take work now, in the order of their addresses."""
    import ray

    nodes = [
        Node(
            node["NodeID"], node["NodeManagerAddress"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.address, node.identity))


def expected(data: DataSettings, digest: str, marker: Path, store: Store | None = None) -> Expected:
    """What the driver's own node has.

    Args:
        data: The sweep's data settings.
        digest: The data set's digest as the driver found it.
        marker: A file that is there now.
        store: What it is in the working copy of, if it is.
    """
    path, url = (str(marker), None) if store is None else (marker.relative_to(store.copy).as_posix(), store.url)
    return Expected(
        versions(), source_digest(), data, digest, path, _sha256(marker.read_bytes()), _authentication(), url
    )


def examine(wanted: Expected) -> Examined:
    """Compares the node on which this runs with what is expected; prepares its copy of the data set.

    The data set is prepared once a node: trials find it in the node's own cache.
    """
    from trainables.data.sources import prepare

    problems = [
        f"{name} is {found}, and {wanted.versions[name]} on the driver's node"
        for name, found in versions().items()
        if found != wanted.versions[name]
    ]
    if source_digest() != wanted.source:
        problems.append("robustfront's source is not the driver's")
    if _authentication() != wanted.authentication:
        problems.append(
            f"its Ray has RAY_AUTH_MODE {_authentication()}, the driver {wanted.authentication} (token, where there is "
            f"{token_file()}): set it alike before both are started"
        )
    location = "nowhere"
    try:
        prepared = prepare(wanted.data)
    except ValueError as error:
        problems.append(str(error))
    else:
        location = prepared.location
        if prepared.digest != wanted.digest:
            problems.append(f"{wanted.data.name} from {location} is not the data that the driver has")
    if wanted.store is None:
        folder = _folder_problem(Path(wanted.marker), wanted.marker_digest)
    else:
        folder = _store_problem(Store(wanted.store), wanted.marker, wanted.marker_digest)
    if folder is not None:
        problems.append(folder)
    if wanted.tracking is not None:
        problems += _tracking_problem(wanted.tracking)
    return Examined(tuple(problems), location, _gpus() if wanted.inspect_gpu else (), time.time())


def source_digest() -> str:
    """SHA-256 of the Python source that numbers come from, wherever it is installed."""
    digest = hashlib.sha256()
    for package in _SHIPPED:
        [root] = importlib.import_module(package).__path__  # Ray unpacks each one in a folder of its own
        for path in sorted(Path(root).rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def shipped() -> dict[str, Any]:
    """A runtime environment that brings this very source to every worker."""
    import analysis
    import search
    import trainables

    return {"py_modules": [search, trainables, analysis], "excludes": ["**/__pycache__"]}


@contextmanager
def marker_beside(folder: Path) -> Iterator[Path]:
    """A file in the nearest folder above ``folder`` that is there already, for as long as nodes look for it."""
    place = next(parent for parent in folder.absolute().parents if parent.is_dir())
    marker, store = place / f".robustfront-{uuid.uuid4().hex}", store_of(place)
    marker.write_text(uuid.uuid4().hex, encoding="utf-8")
    try:
        if store is not None:
            store.push(marker.name)
        yield marker
    finally:
        with suppress(OSError, Halted):
            marker.unlink()
            if store is not None:
                store.delete(marker.name)


class Nodes:
    """Watches the nodes of a cluster during a sweep.

    Args:
        wanted: What each of them must have.
        say: Told of nodes that join and leave.
        changed: Called whenever nodes have come or gone.
    """

    def __init__(self, wanted: Expected, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._wanted, self._say, self._changed = wanted, say, changed
        self._known = {node.identity: node for node in alive()}
        self._examined: dict[Any, Node] = {}
        self._looked = time.monotonic()

    def turn(self) -> None:
        """To be called now and then: looks for changes every other second.

        Raises:
            Halted: A node has joined that would give other numbers, or cannot write to the run's folder.
        """
        import ray

        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        now = {node.identity: node for node in alive()}
        for identity in self._known.keys() - now.keys():
            self._say(f"node {self._known[identity]} is gone: its trials go on elsewhere")
        for identity in now.keys() - self._known.keys():
            self._examined[_start(now[identity], self._wanted)] = now[identity]
        if now.keys() != self._known.keys():
            self._known = now
            self._changed()
        ready, _ = (
            ray.wait(list(self._examined), num_returns=len(self._examined), timeout=0) if self._examined else ([], [])
        )
        for reference in ready:
            node = self._examined.pop(reference)
            try:
                problems = ray.get(reference).problems
            except ray.exceptions.RayError:  # gone again: said above
                continue
            if problems:
                raise Halted(f"node {node.address} has joined, but {'; '.join(problems)}")
            self._say(f"node {node} has joined")


def check_nodes(wanted: Expected) -> dict[Node, Examined]:
    """Examines all nodes at once.

    Returns:
        What each one has.

    Raises:
        UserError: One of them is not fit for the sweep; all that is wrong is in its one line.
    """
    found = dict(examined(wanted, alive()))
    problems = [f"node {node.address}: {'; '.join(one.problems)}" for node, one in found.items() if one.problems]
    if problems:
        raise UserError(
            f"--address must be a cluster whose nodes all fit, got {' | '.join(problems)}; "
            "mend that, or take the node out of the cluster"
        )
    return found


def examined(wanted: Expected, nodes: Sequence[Node]) -> Iterator[tuple[Node, Examined]]:
    """Examines nodes, all at the same time; one that does not answer has that as its problem."""
    import ray

    began = time.time()
    started = [(node, _start(node, wanted)) for node in nodes]
    deadline = time.monotonic() + _EXAMINE_SECONDS
    for node, reference in started:
        try:
            found: Examined = ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        except ray.exceptions.GetTimeoutError:
            yield node, Examined((f"it has not answered for {_EXAMINE_SECONDS:g} s",), "", (), began)
            continue
        except ray.exceptions.RayError as error:
            yield node, Examined((f"it cannot run robustfront ({cause_on_worker(error)})",), "", (), began)
            continue
        problems = list(found.problems)
        if not began - _CLOCK_SECONDS < found.clock < time.time() + _CLOCK_SECONDS:
            problems.append(f"its clock is {found.clock - time.time():+.0f} s off the driver's")
        if wanted.inspect_gpu and node.gpus and not found.gpus:
            problems.append(f"Ray counts {node.gpus:g} GPUs there, and torch can use none")
        yield node, Examined(tuple(problems), found.location, found.gpus, found.clock)


def _start(node: Node, wanted: Expected) -> Any:
    """Has ``examine`` run on a node, beside whatever runs there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=node.identity, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(examine).options(scheduling_strategy=here).remote(wanted)


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _folder_problem(marker: Path, digest: str) -> str | None:
    """Whether the driver's folder is this node's too, and can be written to."""
    remedy = "give --runs-dir a folder that all nodes share, e.g. one on NFS"
    try:
        seen = _sha256(marker.read_bytes())
    except OSError:
        return f"it does not see {marker.parent}, which the driver has: {remedy}"
    if seen != digest:
        return f"its {marker.parent} is another folder than the driver's: {remedy}"
    own = marker.with_name(f"{marker.name}.{uuid.uuid4().hex}")
    try:
        own.write_bytes(b"")
        own.unlink()
    except OSError as error:
        return f"it cannot write to {marker.parent} ({error.strerror}): give user {os.getuid()} the right to"
    return None


def _store_problem(store: Store, marker: str, digest: str) -> str | None:
    """Whether this node reaches the driver's store, and can write to it."""
    try:
        store.check()
        content = store.read(marker)
    except (UserError, Halted) as error:
        return str(error)
    if content is None or _sha256(content) != digest:
        return f"its {store.url} is another than the driver's"
    return None


def _authentication() -> str:
    return os.environ.get("RAY_AUTH_MODE") or "disabled"


def _gpus() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _tracking_problem(uri: str) -> list[str]:
    import requests

    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=10).status_code
    except requests.RequestException as error:
        return [f"MLflow does not answer it ({type(error).__name__})"]
    return [] if status == requests.codes.ok else [f"MLflow answers it with {status}"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
