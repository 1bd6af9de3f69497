"""The doctor: every check answers, and what is wrong comes with a remedy."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from search.cli import doctor
from search.cli.doctor import diagnose, print_findings

QUICKSTART = Path(__file__).parents[2] / "quickstart.yaml"


def test_this_machine_is_well(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in diagnose(QUICKSTART, None, tmp_path)}
    assert {"python", "torchattacks", "gpu", "memory", "disk", "data", "storage", "tracking", "ray"} <= findings.keys()
    assert [finding for finding in findings.values() if finding.level == "problem"] == []
    assert "processors" in findings["ray"].text


def test_the_pins_are_those_of_the_project() -> None:
    assert doctor._pins()["torchattacks"] == "3.5.1"
    assert {"ray", "torch", "torchvision", "optuna", "mlflow"} <= doctor._pins().keys()


def test_what_is_wrong_is_a_problem_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_pins", lambda: {"torchattacks": "3.3.0", "no-such-package": "1.0"})
    monkeypatch.setattr(doctor, "_DISK_NEEDED", 10**18)
    monkeypatch.setattr(doctor, "_ray", lambda _: "")
    findings = {finding.name: finding for finding in diagnose(None, None, tmp_path)}
    assert findings["torchattacks"].level == "note"
    assert findings["no-such-package"].level == "problem"
    assert findings["disk"].level == "problem"
    output = StringIO()
    assert not print_findings(Console(file=output, width=100), findings.values())
    for finding in findings.values():
        if finding.level == "problem":
            assert finding.remedy
            assert finding.remedy in output.getvalue()


def test_an_unreachable_cluster_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in diagnose(None, "127.0.0.1:1", tmp_path)}
    assert findings["ray"].level == "problem"
    assert "ray start --head" in findings["ray"].remedy


def test_an_mlflow_server_that_does_not_answer_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setattr(doctor, "_ray", lambda _: "")
    (tracking,) = (finding for finding in diagnose(None, None, tmp_path) if finding.name == "tracking")
    assert (tracking.level, tracking.text) == ("problem", "cannot reach http://127.0.0.1:9: connection refused")
