"""The nodes of a cluster: all must run the driver's code, read its data, and see its folder.

A driver examines all nodes before the first trial, and each later one when it joins. A worker also examines its own
node before its first trial, since a node that has just joined may get a trial before the driver looks.
``search.worker.tasks`` has the function that runs on a node; this package only starts it.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from search.config import SweepConfig
from search.errors import Halted, UserError, cause_on_worker
from search.runs.provenance import import_paths, source_digest, versions
from search.runs.store import Store, store_of
from trainables.settings import DataSettings

_EXAMINE_SECONDS: Final = 180.0  # a node may have to import Ray from a slow disk and parse the data set
_LOOK_SECONDS: Final = 2.0
_CLOCK_SECONDS: Final = 10.0  # a lease lasts 60 s: if clocks differ by a good part of that, two drivers can hold it


@dataclass(frozen=True)
class Expected:
    """What every node must have as the driver has it. Digests are SHA-256."""

    versions: Mapping[str, str]
    source: str  # the digest of the source, with that at ``user_code``
    user_code: tuple[str, ...]  # import paths of the user's own components
    data: DataSettings
    digest: str  # of the validation and training images
    marker: str  # path of a file that the driver has written into the run's folder or beside it
    marker_digest: str
    authentication: str  # Ray's: a driver that requires the token ignores workers without it
    store: str | None = None  # URL of the runs if they are in an object store; ``marker`` is then relative to it
    inspect_gpu: bool = False  # whether to ask torch for the GPUs; importing it takes seconds
    tracking: str | None = None  # an MLflow server that must answer; None if only the driver's own files are written


class Examined(NamedTuple):
    """What one node has."""

    problems: tuple[str, ...]  # what is wrong, one line each
    location: str  # of its data
    gpus: tuple[str, ...]  # torch's names of them
    clock: float  # Unix time


Examine = Callable[[Expected], Examined]


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


def expected(config: SweepConfig, digest: str, marker: Path, store: Store | None = None) -> Expected:
    """What the driver's own node has. ``digest`` is the manifest's ``data.sha256``, and ``marker`` an existing file."""
    paths = tuple(import_paths(config.to_document()))
    return Expected(
        versions=versions(),
        source=source_digest(paths),
        user_code=paths,
        data=config.data,
        digest=digest,
        marker=str(marker) if store is None else marker.relative_to(store.copy).as_posix(),
        marker_digest=sha256(marker.read_bytes()),
        authentication=authentication(),
        store=None if store is None else store.url,
    )


@contextmanager
def marker_beside(folder: Path) -> Iterator[Path]:
    """A temporary file in the nearest existing folder above ``folder``, for the nodes to look for."""
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
    """Watches the nodes of a cluster during a sweep, and examines those that join.

    ``say`` gets a line about each node that joins or leaves; ``changed`` is called whenever some have.
    """

    def __init__(
        self, expected: Expected, examine: Examine, say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._expected, self._examine, self._say, self._changed = expected, examine, say, changed
        self._known = {node.identity: node for node in alive()}
        self._examined: dict[Any, Node] = {}
        self._looked = time.monotonic()

    def turn(self) -> None:
        """Looks for changes, at most every two seconds; raises ``Halted`` if a node has joined that is not fit."""
        import ray

        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        present = {node.identity: node for node in alive()}
        for identity in self._known.keys() - present.keys():
            self._say(f"node {self._known[identity]} is gone; its trials continue on other nodes")
        for identity in present.keys() - self._known.keys():
            self._examined[_start(present[identity], self._expected, self._examine)] = present[identity]
        if present.keys() != self._known.keys():
            self._known = present
            self._changed()
        references = list(self._examined)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0) if references else ([], [])
        for reference in ready:
            node = self._examined.pop(reference)
            try:
                problems = ray.get(reference).problems
            except ray.exceptions.RayError:  # it has left again, which was reported above
                continue
            if problems:
                raise Halted(f"node {node.address} has joined, but {'; '.join(problems)}")
            self._say(f"node {node} has joined")


def check_nodes(expected: Expected, examine: Examine) -> dict[Node, Examined]:
    """Examines all nodes at once; a ``UserError`` has all that is wrong with them in one line."""
    results = dict(examined(expected, examine, alive()))
    problems = [f"node {node.address}: {'; '.join(each.problems)}" for node, each in results.items() if each.problems]
    if problems:
        raise UserError(
            f"--address must be a cluster whose nodes are all fit, got {' | '.join(problems)}; "
            "fix that, or remove the node from the cluster"
        )
    return results


def examined(expected: Expected, examine: Examine, nodes: Sequence[Node]) -> Iterator[tuple[Node, Examined]]:
    """Examines nodes, all at the same time. A node that does not answer has that as its problem."""
    import ray

    began = time.time()
    started = [(node, _start(node, expected, examine)) for node in nodes]
    deadline = time.monotonic() + _EXAMINE_SECONDS
    for node, reference in started:
        try:
            result: Examined = ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        except ray.exceptions.GetTimeoutError:
            yield node, Examined((f"it has not answered for {_EXAMINE_SECONDS:g} s",), "", (), began)
            continue
        except ray.exceptions.RayError as error:
            yield node, Examined((f"it cannot run robustfront ({cause_on_worker(error)})",), "", (), began)
            continue
        problems = list(result.problems)
        if not began - _CLOCK_SECONDS < result.clock < time.time() + _CLOCK_SECONDS:
            problems.append(f"its clock is {result.clock - time.time():+.0f} s off the driver's")
        if expected.inspect_gpu and node.gpus and not result.gpus:
            problems.append(f"Ray counts {node.gpus:g} GPUs there, but torch can use none")
        yield node, result._replace(problems=tuple(problems))


def _start(node: Node, expected: Expected, examine: Examine) -> Any:
    """Starts ``examine`` on a node, next to whatever runs there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    affinity = NodeAffinitySchedulingStrategy(node_id=node.identity, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(examine).options(scheduling_strategy=affinity).remote(expected)


def authentication() -> str:
    """Ray's mode of authentication in this process."""
    return os.environ.get("RAY_AUTH_MODE") or "disabled"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
