"""Can a trained model's robust accuracy be believed? The audit of a checkpoint, as a file and a page.

``audit.json`` (``schema`` 2) holds one object:

    schema               2
    checkpoint           path of what was audited
    checkpoint_sha256    of the file with the model
    epoch                epoch of the checkpoint
    split                always "validation"
    images               number of images audited
    norm, epsilon, eps_convention    as configured
    radius               the radius in pixel units
    profile, seed        of the audit
    seconds              wall time
    verdict              the verdict on the number that the sweep uses: the worst, over the replicates, of the verdicts
                         on ``claim``; "sound", "suspicious" or "masked"
    clean, verified      {accuracy, low, high}: the mean over the replicates, with its 95 % interval over the images
    replicates           a list, one object per replicate:
        seed             seed of its training
        verdict          the verdict on ``claim``
        clean, verified  as above, of this replicate
        randomised       whether the model draws random numbers
        claim            the claim on the number that the sweep uses: the worst case over its attacks (a cheap worst
                         case where the training left no outcomes at this radius)
        attack_claims    a list: the claims of the sweep's single attacks; empty where there are no outcomes. They do
                         not count for any ``verdict`` above
        checks           a list: name, source, claim (the name of the claim that it concerns, or null for all), value,
                         threshold, at_least, state ("passed", "failed", "not done"), sentence
        runs             a list: name, attack, view, attacked, broken, error
        curve            a list: radius, images, accuracy, low, high
        curve_clean      clean accuracy on the images of the curve, or null
        seconds          wall time
    asked                what the audit depends on; an audit with an equal value is not run again

A claim is {name, evaluation, attacks, views, images, claimed, verified, verified_low, verified_high, lost,
lost_share_low, p_value, verdict, sentence}. A check that concerns an entry of ``attack_claims`` has that entry's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from analysis.statistics import wilson_interval
from search.config import SweepConfig, available_cpus
from search.errors import UserError
from search.results.titles import radius_title
from search.runs.checkpoints import Checkpoint
from search.runs.folder import relative
from search.runs.layout import SURROGATE
from trainables import files as atomic
from trainables.metrics import ROBUST

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainables.audit import Audit, Claim, Profile, Verdict
    from trainables.data.splits import Split
    from trainables.robustness import Outcomes
    from trainables.settings import RobustnessSettings
    from trainables.training.replicate import Replicate

AUDIT_FILE: Final = "audit.json"
PAGE_FILE: Final = "audit.html"
SCHEMA: Final = 2

# Another version of these may find something else.
_PACKAGES: Final = ("robustfront", "torch", "torchattacks")


def _ignore(done: float, total: int, name: str, /) -> None:
    """Takes progress that nobody follows."""
    del done, total, name


class Report(Protocol):
    """Takes progress."""

    def __call__(self, done: float, total: int, name: str, /) -> None:
        """How many parts of how many are done, and which one runs."""


class Audience:
    """Who follows an audit; this one ignores it all."""

    def say(self, text: str) -> None:
        """A line about the whole audit."""

    def watch(self, where: str) -> AbstractContextManager[Report]:
        """Follows the audit of one replicate; ``where`` says which, if there are several."""
        del where
        return nullcontext(_ignore)


@dataclass(frozen=True)
class Asked:
    """What is audited and how: all that a result depends on.

    Args:
        checkpoint: SHA-256 of the checkpoint's file.
        outcomes: SHA-256 of the file with the claimed outcomes; None without one.
        settings: Data, model and robustness as configured.
        profile: Name of the profile.
        images: How many validation images.
        seed: Of all random numbers.
        versions: Of the packages involved.
    """

    checkpoint: str
    outcomes: str | None
    settings: Mapping[str, Any]
    profile: str
    images: int
    seed: int
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As it is written to the file."""
        loaded: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return loaded


def audit_model(
    checkpoint: Checkpoint,
    config: SweepConfig,
    folder: Path,
    *,
    profile_name: str,
    images: int | None = None,
    seed: int = 0,
    cuda: bool | None = None,
    splits: Mapping[str, Split] | None = None,
    audience: Audience | None = None,
) -> dict[str, Any]:
    """Audits a model and writes the result; a model that has been audited in the same way is not audited again.

    Args:
        checkpoint: The model.
        config: Data and model as it was trained; the radius and norm to audit at.
        folder: Where the result is written, or has been.
        profile_name: ``quick`` or ``reference``.
        images: How many validation images; if None, the profile's minimum or as many as the claim is on.
        seed: In [0, 2^32).
        cuda: Whether to use a GPU; None to use one if there is one.
        splits: ``train`` and ``validation``, if they are loaded already.
        audience: Who follows it.

    Returns:
        The contents of ``audit.json``.

    Raises:
        UserError: There are too few images, the data is missing, or a checkpoint cannot be read.
    """
    # The profiles are in a module that imports torch, which an audit needs anyway.
    from trainables.audit import PROFILES, WORDS

    audience = audience or Audience()
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
            "data": config.data.to_document(),
            "model": config.model.to_document(),
            "radius": [robustness.norm, robustness.epsilons[0], robustness.eps_convention],
        },
        profile=profile_name,
        images=count,
        seed=seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
    title = f"{relative(checkpoint.path.absolute())}: {config.model.title} on {config.data.dataset.title}"
    before = _read(folder / AUDIT_FILE)
    if before is not None and (before.get("schema"), before.get("asked")) == (SCHEMA, asked.to_json()):
        audience.say(f"{title}: audited before, with the same checkpoint, settings and seed")
        return before
    audience.say(f"{title}, {count} validation images, profile {profile_name}")
    document, arrays = _run(checkpoint, config, profile, asked, audience, cuda, splits)
    folder.mkdir(parents=True, exist_ok=True)
    _save_arrays(folder / "audit.npz", arrays)
    atomic.write(folder / AUDIT_FILE, json.dumps(document, indent=2) + os.linesep)

    from analysis.figures.audit import write_page

    write_page(
        document,
        folder / PAGE_FILE,
        words={str(word): text for word, text in WORDS.items()},
        title=title,
        axis=f"{radius_title(robustness)}, pixel units",
    )
    return document


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an ``audit.json`` says of the worst case over the attacks: verdict, profile, images and accuracy.

    Where the training's own outcomes are lost, nothing was claimed: then of everything that was run.
    """
    replicates = document["replicates"]
    claims = [replicate["claim"] for replicate in replicates]
    if all(claim["name"] == ROBUST for claim in claims):
        images, accuracies = claims[0]["images"], [claim["verified"] for claim in claims]
    else:
        images, accuracies = document["images"], [replicate["verified"]["accuracy"] for replicate in replicates]
    return {
        "verdict": document["verdict"],
        "profile": document["profile"],
        "images": images,
        "accuracy": sum(accuracies) / len(accuracies),
    }


def _run(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile: Profile,
    asked: Asked,
    audience: Audience,
    cuda: bool | None,
    splits: Mapping[str, Split] | None,
) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.bool_]]]:
    """The audit itself: the contents of ``audit.json`` and ``audit.npz``."""
    import torch

    from trainables.attacks import attack_seed
    from trainables.audit import audit, worst
    from trainables.data.splits import load_splits
    from trainables.training.checkpoint import load_trained

    torch.set_num_threads(min(available_cpus(), torch.get_num_threads()))  # OMP_NUM_THREADS is heeded
    device = torch.device("cuda" if (torch.cuda.is_available() if cuda is None else cuda) else "cpu")
    if splits is None:
        try:
            splits = load_splits(config.data, device)
        except ValueError as error:
            raise UserError(str(error)) from None
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
        with audience.watch(where) as report:
            try:
                result = audit(
                    replicate.predictor,
                    images,
                    labels,
                    claims_of(outcomes, r, checkpoint.config.robustness) if outcomes else (),
                    radius=radius,
                    norm=config.robustness.norm,
                    profile=profile,
                    seed=attack_seed(asked.seed, f"audit/{replicate.seed}"),
                    batch_size=config.robustness.batch_size,
                    surrogate=replicates[r - 1].predictor if len(replicates) > 1 else surrogate,
                    progress=report,
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
        "verdict": worst(result.verdicts[0].word for result in audits),
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
    claims = [Claim(ROBUST, robustness.attacks, robustness.views, np.asarray(kept.all(axis=(0, 1))))]
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
        return load_trained(baseline, config.problem, splits)[0].predictor
    except ValueError:  # not trained yet
        return None


def _replicate(result: Audit, replicate: Replicate) -> dict[str, Any]:
    main, *single = result.verdicts  # in the order of claims_of: the worst case first
    probes = len(result.curve[0][1]) if result.curve else 0
    return {
        "seed": replicate.seed,
        "verdict": main.word,
        "clean": _share(result.clean),
        "verified": _share(result.verified),
        "randomised": result.randomised,
        "claim": _claim(main, result),
        "attack_claims": [_claim(verdict, result) for verdict in single],
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
