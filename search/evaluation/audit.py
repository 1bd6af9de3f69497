"""Can a trained model's robust number be believed? The audit of a checkpoint, as a table, a file and a page."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from analysis.records import WORST_CASE
from analysis.statistics import wilson_interval
from search.config.schema import SweepConfig, available_cpus
from search.errors import UserError
from search.evaluation.checkpoints import SURROGATE, Checkpoint
from search.results.pooling import worst_verdict
from search.results.tables import VERDICT_STYLES, radius_title
from search.runs.dataset import prepare_dataset
from search.runs.folder import relative
from trainables import files as atomic

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainables.audit import Audit, Claim, Profile, Verdict
    from trainables.robustness import Outcomes
    from trainables.settings import RobustnessSettings
    from trainables.training.loop import Replicate

AUDIT_FILE: Final = "audit.json"
PAGE_FILE: Final = "audit.html"
SCHEMA: Final = 1

# What a check or a run hangs on beside the settings: another version may find something else.
_PACKAGES: Final = ("robustfront", "torch", "torchattacks")

_MARKS: Final = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "not done": "[dim]?[/dim]"}


@dataclass(frozen=True)
class Asked:
    """What is to be audited and how, as far as a result hangs on it.

    Args:
        checkpoint: SHA-256 of the checkpoint's file.
        outcomes: SHA-256 of the file with what is claimed; None without one.
        settings: Data, model and robustness as configured.
        profile: Name of the profile.
        images: How many validation images.
        seed: Of everything that is drawn.
        versions: Of the packages that do it.
    """

    checkpoint: str
    outcomes: str | None
    settings: Mapping[str, Any]
    profile: str
    images: int
    seed: int
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As it is in the file."""
        loaded: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return loaded


def audit_checkpoint(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile: str,
    images: int | None,
    seed: int,
    output: Path | None,
    console: Console,
) -> None:
    """Audits a model and shows the result; one that has been audited before is shown again.

    Args:
        checkpoint: The model.
        config: Data and model as it was trained; the radius and norm to audit at.
        profile: ``quick`` or ``reference``.
        images: How many validation images; the profile's least, or as many as the claim is on, where it is None.
        seed: In [0, 2^32).
        output: Folder to write the audit to; beside the checkpoint where it is None.
        console: Where progress and tables are shown.

    Raises:
        UserError: There are too few images, the data is missing, or a checkpoint cannot be read.
    """
    folder = output or checkpoint.place("audits")
    print_audit(console, _audited(checkpoint, config, profile, images, seed, folder, console))
    checkpoint.share(folder)
    console.print(f"Written to {relative(folder.absolute())}", highlight=False, soft_wrap=True)


def audit_trial(checkpoint: str, profile: str, threads: int, cuda: bool) -> dict[str, Any]:
    """Audits a trial's newest checkpoint in this process and says what came out; one audited before is not again.

    Args:
        checkpoint: As ``Checkpoint.find`` takes it: the path of the trial's folder of checkpoints, or its URL.
        profile: ``quick`` or ``reference``.
        threads: torch threads.
        cuda: Whether to use a GPU. Ray leaves GPUs visible to what it has given none.

    Returns:
        What ``Ledger.audited`` takes.

    Raises:
        UserError: As ``audit_checkpoint``.
        Halted: The run's store does not answer.
    """
    import torch

    torch.set_num_threads(threads)
    found = Checkpoint.find(checkpoint, Path())
    folder = found.place("audits")
    document = _audited(found, found.config, profile, None, 0, folder, Console(quiet=True), cuda)
    found.share(folder)
    return summary_of(document)


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an ``audit.json`` says of the worst case over the attacks, as ``Ledger.audited`` takes it.

    Where the training's own outcomes are lost, nothing was claimed: then of everything that was run.
    """
    replicates = document["replicates"]
    claims = [[claim for claim in one["claims"] if claim["name"] == WORST_CASE] for one in replicates]
    if not all(claims):
        verdict, images = document["verdict"], document["images"]
        verified = [one["verified"]["accuracy"] for one in replicates]
    else:
        verdict = worst_verdict([claim["verdict"] for [claim] in claims])
        images = claims[0][0]["images"]
        verified = [claim["verified"] for [claim] in claims]
    return {"verdict": verdict, "profile": document["profile"], "images": images, "verified": verified}


def _audited(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile_name: str,
    images: int | None,
    seed: int,
    folder: Path,
    console: Console,
    cuda: bool | None = None,
) -> dict[str, Any]:
    """One checkpoint's audit, from its file if it is there; on a GPU if there is one, unless ``cuda`` says."""
    # The profiles' numbers need torch's module; its import is what an audit needs anyway.
    from trainables.audit import PROFILES, WORDS

    profile, robustness = PROFILES[profile_name], config.robustness
    count = max(profile.images, robustness.images) if images is None else images
    if not profile.images <= count <= config.data.validation_size:
        raise UserError(
            f"--images must be from {profile.images} (profile {profile_name}) to data.validation_size "
            f"({config.data.validation_size}), got {count}; the checkpoint's own validation images are attacked"
        )
    asked = Asked(
        checkpoint=_digest(checkpoint.newest),
        outcomes=_digest(checkpoint.outcomes) if checkpoint.outcomes.is_file() else None,
        settings={
            "data": asdict(config.data),
            "model": config.model,
            "radius": [robustness.norm, robustness.epsilons[0], robustness.eps_convention],
        },
        profile=profile_name,
        images=count,
        seed=seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
    title = f"{relative(checkpoint.path.absolute())}: {config.model} on {config.data.name}"
    before = _read(folder / AUDIT_FILE)
    if before is not None and before.get("asked") == asked.to_json():
        console.print(f"{title}: audited before, with the same checkpoint, settings and seed", highlight=False)
        return before
    console.print(f"{title}, {count} validation images, profile {profile_name}", highlight=False, soft_wrap=True)
    document, arrays = _run(checkpoint, config, profile, asked, console, cuda)
    folder.mkdir(parents=True, exist_ok=True)
    _save_arrays(folder / "audit.npz", arrays)
    atomic.write(folder / AUDIT_FILE, json.dumps(document, indent=2) + os.linesep)

    from analysis.pages.audit import write_page

    write_page(
        document,
        folder / PAGE_FILE,
        words={str(word): text for word, text in WORDS.items()},
        title=title,
        axis=f"{radius_title(robustness)}, pixel units",
    )
    return document


def _run(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile: Profile,
    asked: Asked,
    console: Console,
    cuda: bool | None,
) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.bool_]]]:
    """The audit itself: what goes into ``audit.json`` and ``audit.npz``."""
    prepare_dataset(config.data)

    import torch

    from trainables.attacks import attack_seed
    from trainables.audit import audit, worst
    from trainables.data.splits import load_splits
    from trainables.training.checkpoint import load_trained

    torch.set_num_threads(min(available_cpus(), torch.get_num_threads()))  # OMP_NUM_THREADS is heeded
    device = torch.device("cuda" if (torch.cuda.is_available() if cuda is None else cuda) else "cpu")
    splits = load_splits(config.data, device)
    try:
        replicates = load_trained(checkpoint.path, config.problem, splits)
    except ValueError as error:
        raise UserError(f"CHECKPOINT: {error}") from None
    outcomes = _outcomes(checkpoint, config.robustness, replicates)
    surrogate = _surrogate(checkpoint, config, splits, replicates)
    images, labels = (values[: asked.images] for values in (splits["validation"].images, splits["validation"].labels))
    [radius, *_] = config.robustness.radii(images[0].numel())
    began, audits = time.monotonic(), []
    for r, replicate in enumerate(replicates):
        where = f"replicate {r}: " if len(replicates) > 1 else ""
        with _AuditProgress(console, where) as progress:
            try:
                result = audit(
                    replicate.model,
                    images,
                    labels,
                    claims_of(outcomes, r, checkpoint.config.robustness) if outcomes else (),
                    radius=radius,
                    norm=config.robustness.norm,
                    profile=profile,
                    seed=attack_seed(asked.seed, f"audit/{replicate.seed}"),
                    batch_size=config.robustness.batch_size,
                    surrogate=replicates[r - 1].model if len(replicates) > 1 else surrogate,
                    progress=progress.report,
                )
            except ValueError as error:
                raise UserError(f"audit: {error}") from None
        audits.append(result)
    arrays = {
        "clean": np.stack([result.clean for result in audits]),
        "verified": np.stack([result.verified for result in audits]),
    }
    document = {
        "schema": SCHEMA,
        "checkpoint": str(checkpoint.path),
        "checkpoint_sha256": asked.checkpoint,
        "epoch": replicates[0].epoch,
        "split": "validation",
        "images": asked.images,
        "norm": config.robustness.norm,
        "epsilon": config.robustness.epsilons[0],
        "eps_convention": config.robustness.eps_convention,
        "radius": radius,
        "profile": asked.profile,
        "seed": asked.seed,
        "seconds": time.monotonic() - began,
        "verdict": worst(result.word for result in audits),
        "clean": _share(arrays["clean"]),
        "verified": _share(arrays["verified"]),
        "replicates": [_replicate(result, replicate) for result, replicate in zip(audits, replicates, strict=True)],
        "asked": asked.to_json(),
    }
    return document, arrays


def claims_of(outcomes: Outcomes, replicate: int, robustness: RobustnessSettings) -> list[Claim]:
    """What a finished training claims of one replicate: its robust accuracy, and each attack's on its first view.

    Args:
        outcomes: Of the training.
        replicate: Its position.
        robustness: The settings that the outcomes were measured with.
    """
    from trainables.audit import Claim

    kept = outcomes.kept[replicate, :, :, 0]
    claims = [Claim(WORST_CASE, robustness.attacks, robustness.views, np.asarray(kept.all(axis=(0, 1))))]
    for a, attack in enumerate(robustness.attacks):
        for name, v in outcomes.shown(a)[:1]:
            claims.append(Claim(name, (attack,), (robustness.views[v],), kept[a, v]))
    return claims


def _outcomes(
    checkpoint: Checkpoint, robustness: RobustnessSettings, replicates: Sequence[Replicate]
) -> Outcomes | None:
    """What the training measured, if it did so on this checkpoint, at this radius and in this norm."""
    from trainables.robustness import Outcomes

    measured = checkpoint.config.robustness
    ball = (robustness.norm, robustness.epsilons[0], robustness.eps_convention)
    if (
        not checkpoint.outcomes.is_file()
        or replicates[0].epoch < checkpoint.config.train.epochs
        or ball != (measured.norm, measured.epsilons[0], measured.eps_convention)
    ):
        return None
    outcomes = Outcomes.load(checkpoint.outcomes)
    labels = tuple(attack.label for attack in measured.attacks)
    seeds = tuple(replicate.seed for replicate in replicates)
    known = outcomes.attacks == labels and outcomes.views == measured.views and outcomes.seeds == seeds
    return outcomes if known else None


def _surrogate(
    checkpoint: Checkpoint, config: SweepConfig, splits: Mapping[str, Any], replicates: Sequence[Replicate]
) -> Any:
    """A model to borrow adversarial examples from: the run's first baseline; None where there is none beside it."""
    from trainables.training.checkpoint import load_trained

    baseline = checkpoint.folder.parent / SURROGATE
    if len(replicates) > 1 or checkpoint.number is None or checkpoint.number == SURROGATE or not baseline.is_dir():
        return None
    try:
        return load_trained(baseline, config.problem, splits)[0].model
    except ValueError:  # not trained yet
        return None


def _replicate(result: Audit, replicate: Replicate) -> dict[str, Any]:
    probes = len(result.curve[0][1]) if result.curve else 0
    return {
        "seed": replicate.seed,
        "verdict": result.word,
        "clean": _share(result.clean),
        "verified": _share(result.verified),
        "randomised": result.randomised,
        "claims": [_claim(verdict, result) for verdict in result.verdicts],
        "checks": [check.to_json() for check in result.checks],
        "runs": list(result.runs),
        "curve": [{"radius": radius, "images": probes, **_share(kept)} for radius, kept in result.curve],
        "curve_clean": float(result.clean[:probes].mean()) if probes else None,
        "seconds": result.seconds,
    }


def _claim(verdict: Verdict, result: Audit) -> dict[str, Any]:
    claim, gap = verdict.claim, verdict.gap
    verified = _share(claim.kept & result.verified[: len(claim.kept)])
    return {
        "name": claim.name,
        "evaluation": claim.evaluation,
        "attacks": [attack.label for attack in claim.attacks],
        "views": list(claim.views),
        "images": gap.images,
        "claimed": claim.accuracy,
        "verified": verified["accuracy"],
        "verified_low": verified["low"],
        "verified_high": verified["high"],
        "lost": gap.lost,
        "lost_share_low": gap.low,
        "p_value": gap.p_value,
        "verdict": verdict.word,
        "sentence": verdict.sentence,
    }


def _share(kept: npt.NDArray[np.bool_]) -> dict[str, float]:
    """An accuracy and its 95 % interval over the images; of several replicates (R, n), their mean's, over n."""
    images = kept.shape[-1]
    accuracy = float(kept.mean())
    low, high = wilson_interval(round(accuracy * images), images)
    return {"accuracy": accuracy, "low": min(low, accuracy), "high": max(high, accuracy)}


def print_audit(console: Console, document: Mapping[str, Any]) -> None:
    """An ``audit.json`` for people: what is claimed and what holds, then the checks that fail and those that do not."""
    from trainables.audit import WORDS

    verified = document["verified"]
    style = VERDICT_STYLES[document["verdict"]]
    console.print(
        f"\nVerdict ({document['profile']} audit): [bold {style}]{document['verdict']}[/bold {style}]. "
        f"The worst of these claims {WORDS[document['verdict']]}.\n"
        f"Verified accuracy within {document['radius']:.4g}: {100 * verified['accuracy']:.1f} % "
        f"({100 * verified['low']:.1f} to {100 * verified['high']:.1f}) of {document['images']} images, "
        f"the worst case over everything that was run.",
        highlight=False,
    )
    for number, replicate in enumerate(document["replicates"]):
        if len(document["replicates"]) > 1:
            console.print(f"\n[bold]Replicate {number}, seed {replicate['seed']}[/bold]", highlight=False)
        console.print(_claims_table(replicate["claims"]))
        for claim in replicate["claims"]:
            console.print(f"  {claim['name']}: {claim['sentence']}.", highlight=False, markup=False)
        console.print()
        _print_checks(console, replicate["checks"])


def _claims_table(claims: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("what is claimed", overflow="fold")
    table.add_column("by")
    table.add_column("claimed %", justify="right", no_wrap=True)
    table.add_column("verified % (95 %)", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in claims:
        interval = f"({100 * claim['verified_low']:.1f} to {100 * claim['verified_high']:.1f})"
        style = VERDICT_STYLES[claim["verdict"]]
        table.add_row(
            claim["name"],
            claim["evaluation"],
            f"{100 * claim['claimed']:.1f}",
            f"{100 * claim['verified']:.1f} {interval}",
            f"[{style}]{claim['verdict']}[/{style}]",
        )
    return table


def _print_checks(console: Console, checks: Sequence[Mapping[str, Any]]) -> None:
    for check in checks:
        if check["state"] != "passed":
            of = f", {check['claim']}" if check["claim"] else ""
            state = " (not done)" if check["state"] == "not done" else ""
            console.print(
                Text.assemble(
                    Text.from_markup(f"  {_MARKS[check['state']]} "),
                    (f"{check['name']}{of}{state}: ", "bold"),
                    f"{check['sentence']} ",
                    (f"[{check['source']}]", "dim"),
                ),
                highlight=False,
            )
    passed = [check for check in checks if check["state"] == "passed"]
    names = ", ".join(dict.fromkeys(check["name"] for check in passed))
    console.print(f"  {_MARKS['passed']} [dim]{len(passed)} checks passed: {names}[/dim]", highlight=False)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    atomic.write(path, buffer.getvalue())


class _AuditProgress:
    """Which part of an audit runs, how far it is, and how long the rest takes."""

    def __init__(self, console: Console, where: str) -> None:
        self._console, self._where, self._said = console, where, ""
        self._bar = Progress(
            TextColumn("{task.description:<52}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"{where}begins", total=1.0)

    def __enter__(self) -> _AuditProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, done: float, total: int, name: str) -> None:
        """Takes how many parts are done, and which one runs."""
        self._bar.update(self._task, completed=done, total=total, description=f"{self._where}{name}")
        if not self._console.is_terminal and name != self._said:
            self._console.print(f"[{int(done) + 1}/{total}] {self._where}{name}", highlight=False, markup=False)
            self._said = name
