"""The audit of a checkpoint from the command line."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainables.audit
from analysis.figures.audit import page
from search.cli.main import DONE, WRONG_INPUT, run
from search.results.audits import summary_of
from search.runs.checkpoints import Checkpoint
from search.worker.tasks import audit_trial
from tests.search.examples import small_config
from trainables.audit import Audit, Claim, Profile
from trainables.audit.verdict import judge
from trainables.robustness import Outcomes

SMALL = Profile(
    name="quick",
    images=60,
    steps=4,
    targets=2,
    queries=10,
    draws=5,
    fab=False,
    restarts=1,
    probes=10,
    planted=2,
)
IMAGES = 120


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``robustfront train`` leaves of one replicate on 300 digits, weakly attacked."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "config.yaml"
    small = small_config(data={"validation_size": IMAGES}, robustness={"images": 60, "epsilon": 0.5})
    config.write_text(small.to_yaml(), encoding="utf-8")
    words = ["train", str(config), "--param", "s=1.0", "--param", "m=0.1", "--output", str(folder / "model")]
    assert run(words) == DONE
    return folder / "model"


@pytest.fixture(scope="module", autouse=True)
def _small_profile() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainables.audit, "PROFILES", {"quick": SMALL})
        yield


@pytest.fixture(scope="module")
def audited(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an audit, and what was printed."""
    folder, printed = tmp_path_factory.mktemp("audited"), io.StringIO()
    with redirect_stdout(printed):
        assert run(["audit", str(trained), "--output", str(folder)]) == DONE
    return folder, printed.getvalue()


def document(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return loaded


def test_an_audit_judges_what_the_training_claims(trained: Path, audited: tuple[Path, str]) -> None:
    folder, printed = audited[0], " ".join(audited[1].split())
    written = document(folder)
    [replicate] = written["replicates"]
    outcomes = Outcomes.load(trained / "outcomes.npz")
    assert (written["images"], written["profile"], written["split"], written["schema"]) == (
        60,
        "quick",
        "validation",
        5,
    )
    assert written["claimed_by"] == "training"
    assert "The robust accuracy that the sweep uses, the worst case over its attacks," in printed
    assert re.fullmatch(r"[0-9a-f]{64}", written["checkpoint_sha256"])
    claims = {claim["name"]: claim for claim in [replicate["claim"], *replicate["attack_claims"]]}
    assert list(claims) == ["robust_accuracy", "pgd2-ce/normalized", "pgd2-dlr/normalized"]
    assert claims["robust_accuracy"]["claimed"] == pytest.approx(outcomes.robust_accuracy()[0])
    assert claims["pgd2-ce/normalized"]["claimed"] == pytest.approx(outcomes.kept[0, 0, 0, 0].mean())
    for claim in claims.values():
        assert claim["verified"] == pytest.approx(claim["claimed"] - claim["lost"] / claim["images"])
        assert claim["verified_low"] <= claim["verified"] <= claim["verified_high"]
        assert f"{claim['name']}: {claim['sentence']}." in printed
    assert written["verdict"] in printed
    with np.load(folder / "audit.npz", allow_pickle=False) as arrays:
        assert arrays["verified"].shape == arrays["clean"].shape == (1, 60)
        assert arrays["verified"].mean() == pytest.approx(written["verified"]["accuracy"])
    for check in replicate["checks"]:
        assert check["name"] in printed
        assert check["sentence"]
        assert check["state"] in ("passed", "failed", "not done")


def test_the_page_stands_alone_and_says_the_same(audited: tuple[Path, str]) -> None:
    text = (audited[0] / "audit.html").read_text(encoding="utf-8")
    written = document(audited[0])

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.words: list[str] = []
            self.links: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    reader = Reader()
    reader.feed(text)
    assert "svg" in reader.tags
    assert not [link for link in reader.links if not link.startswith("#")]
    assert not {"script", "link", "iframe", "img"} & set(reader.tags)
    shown = " ".join(" ".join(reader.words).split())
    for check in written["replicates"][0]["checks"]:
        assert " ".join(check["sentence"].split()) in shown
        assert check["source"] in shown
    hostile = {**written, "split": "<script>alert(1)</script>"}
    assert "<script>" not in page(hostile, meaning="word", title="<script>", axis="radius")


def test_the_same_audit_is_shown_again_without_running(
    trained: Path,
    audited: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, printed = audited
    first = (folder / "audit.json").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it ran")

    with monkeypatch.context() as patched:
        patched.setattr(trainables.audit, "audit", refuse)
        assert run(["audit", str(trained), "--output", str(folder)]) == DONE
        again = capsys.readouterr().out
        assert "audited before" in again
        assert printed[printed.index("Verdict") :] == again[again.index("Verdict") :]
        assert (folder / "audit.json").read_bytes() == first
        with pytest.raises(AssertionError, match="it ran"):
            run(["audit", str(trained), "--seed", "1", "--output", str(folder)])


def test_at_another_radius_the_cheap_worst_case_is_the_claim(trained: Path, tmp_path: Path) -> None:
    words = ["--set", "robustness.epsilon=0.3", "--output", str(tmp_path)]
    assert run(["audit", str(trained), *words]) == DONE
    [replicate] = document(tmp_path)["replicates"]
    claim = replicate["claim"]
    assert replicate["attack_claims"] == []
    assert claim["images"] == 60
    assert "apgd" in claim["evaluation"]
    assert document(tmp_path)["claimed_by"] == "audit"
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "The robust accuracy by a usual evaluation, which the audit ran first," in text
    assert document(tmp_path)["radius"] == 0.3


def test_a_masked_attack_leaves_a_sound_worst_case_sound(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak attack is covered by the others: what the sweep uses is the worst case, and the verdict is on that."""
    broken = np.zeros(60, dtype=bool)

    def audited(*_: object, **__: object) -> Audit:
        claims = [Claim("robust_accuracy", (), (), broken), Claim("pgd2-ce/normalized", (), (), ~broken)]
        return Audit(
            clean=~broken,
            verified=broken,
            distance=np.zeros(60, np.float32),
            verdicts=tuple(judge(claim, broken, [], []) for claim in claims),
            checks=(),
            runs=(),
            curve=(),
            randomised=False,
            upper_bound=False,
            seconds=1.0,
        )

    monkeypatch.setattr(trainables.audit, "audit", audited)
    assert run(["audit", str(trained), "--output", str(tmp_path)]) == DONE
    written = document(tmp_path)
    [replicate] = written["replicates"]
    assert (written["verdict"], replicate["verdict"], replicate["claim"]["verdict"]) == ("sound", "sound", "sound")
    assert [claim["verdict"] for claim in replicate["attack_claims"]] == ["masked"]
    assert summary_of(written)["verdict"] == "sound"
    assert "Verdict (quick audit): sound." in capsys.readouterr().out
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    body = text[text.index("<body") :].casefold()
    assert body.index("sound") < body.index("masked")


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("available", [True, False])
def test_a_runs_audit_uses_a_gpu_exactly_if_it_was_given_one(
    trained: Path, monkeypatch: pytest.MonkeyPatch, available: bool, given: bool
) -> None:
    class Loaded(Exception):
        pass

    def load(_: object, device: torch.device) -> None:
        raise Loaded(device.type)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr("trainables.data.splits.load_splits", load)
    with pytest.raises(Loaded, match="cuda" if given else "cpu"):
        audit_trial(str(trained), "quick", 1, given)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "fast"], "Invalid value for '--profile': 'fast'"),
        (
            ["--images", "59"],
            "--images must be from 60 (profile quick) to 120 (the number of validation images), got 59",
        ),
        (
            ["--images", "121"],
            "--images must be from 60 (profile quick) to 120 (the number of validation images), got 121",
        ),
        (["--set", "model=cnn8"], "CHECKPOINT: model and loss must be those saved in"),
    ],
)
def test_what_cannot_be_is_one_line(
    trained: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", str(trained), *words, "--output", str(tmp_path / "out")]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_where_things_are(tmp_path: Path) -> None:
    config = small_config()
    trial = Checkpoint(tmp_path / "checkpoints" / "7", config, tmp_path, "7")
    alone = Checkpoint(tmp_path, config, tmp_path, None)
    assert trial.place("audits") == tmp_path / "audits" / "7"
    assert trial.place("evaluations") == tmp_path / "evaluations" / "7"
    assert trial.outcomes == tmp_path / "outcomes" / "7.npz"
    assert alone.place("audits") == tmp_path / "audit"
    assert alone.place("evaluations") == tmp_path / "evaluation"
    assert alone.outcomes == tmp_path / "outcomes.npz"
