"""Can a trained model's robust accuracy be believed? The audit of a checkpoint, as a file and a page.

``audit.json`` (``schema`` 5) holds one object:

    checkpoint, checkpoint_sha256, epoch    path, file hash and epoch of what was audited; of a module from elsewhere
                         (`search.evaluation.module_audit`) its ``module``, weights' file, weights' hash, and null
    split, images        "validation" or "confirmation" for a checkpoint ("all" of a data set without splits), how many
                         of its images
    norm, epsilon, eps_convention, radius   as configured, and the radius in pixel units
    profile, seed, seconds                  of the audit
    verdict              "sound", "suspicious" or "masked": the worst, over the replicates, of the verdicts on ``claim``
    claimed_by           who claims what is judged: "training", or "audit" if nothing was claimed at this radius
    clean, verified      {accuracy, low, high}: the mean over the replicates, with its 95 % interval over the images
    upper_bound          whether ``verified`` is an upper bound and no more, because a check fails (for any replicate)
    replicates           a list: seed (of its training), verdict (on ``claim``), clean, verified, seconds, and
        randomised       whether the model draws random numbers
        claim            the claim on the number that the sweep uses: the worst case over its attacks (the audit's own
                         cheap worst case where nothing was claimed)
        attack_claims    a list: the claims of the sweep's single attacks; empty where there are no outcomes. They count
                         for no ``verdict`` above
        checks           a list: name, source, claim (the name of the claim that it concerns, or null for all), value,
                         threshold, at_least, state ("passed", "failed", "not done"), sentence
        runs             a list: name, attack, view, attacked, broken, error, accuracy (what the attack alone leaves;
                         null where it saw only what others had left)
        curve            a list: radius, images, accuracy, low, high
        curve_clean      clean accuracy on the images of the curve, or null
    asked                all that the audit depends on: SHA-256 of ``checkpoint`` and claimed ``outcomes`` (or null),
                         ``settings``, ``profile``, ``images``, ``seed``, ``versions``; an equal audit is not run again

``audit.npz`` has ``clean``, ``verified`` and ``distance`` of `trainables.audit.Audit`, (replicates, images).

A claim is {name, evaluation, attacks, views, images, claimed, verified, verified_low, verified_high, lost,
lost_share_low, p_value, verdict, sentence}.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.statistics import wilson_interval
from search.config import SweepConfig, available_cpus
from search.errors import UserError
from search.results.text import radius_title
from search.runs.checkpoints import Checkpoint
from search.runs.folder import relative
from search.runs.layout import AUDIT_ARRAYS, AUDIT_FILE, SURROGATE
from trainables import files
from trainables.metrics import ROBUST

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import nn

    from trainables.audit import Audit, Claim, Verdict
    from trainables.data.splits import Split
    from trainables.robustness import Outcomes
    from trainables.settings import RobustnessSettings
    from trainables.training.replicate import Replicate

IMAGE_ARRAYS: Final = ("clean", "verified", "distance")
SCHEMA: Final = 5

# Whose number is judged, as the beginning of a sentence that a verdict's meaning ends.
_CLAIMED: Final = {
    "training": "The robust accuracy that the sweep uses, the worst case over its attacks,",
    "audit": "The robust accuracy by a usual evaluation, which the audit ran first,",
}

# Another version of these may find something else.
_PACKAGES: Final = ("robustfront", "torch", "torchattacks")

# Takes how many parts of how many are done, and the name of the one that runs.
Report = Callable[[float, int, str], None]
# Follows the audit of one replicate; gets a prefix that says which, if there are several.
Watch = Callable[[str], AbstractContextManager[Report | None]]


@dataclass(frozen=True, kw_only=True)
class AuditJob:
    """What an audit is of, as far as it is known before anything is loaded."""

    title: str  # which model on which data, for people
    about: Mapping[str, Any]  # the first entries of ``audit.json``: model and split
    robustness: RobustnessSettings  # radius, norm and batch size
    asked: Mapping[str, Any]  # all that the result depends on, as from ``asked_of``


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """One replicate of a model: from images to logits, and what is claimed of it, the number used first."""

    model: nn.Module
    seed: int | None = None  # of its training, if that is known
    claims: Sequence[Claim] = ()
    surrogate: nn.Module | None = None  # to borrow adversarial examples from


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """The replicates of a model, and images on their device, at least as many as are audited."""

    replicates: Sequence[Audited]
    split: Split
    epoch: int | None = None


def read_audit(folder: Path) -> dict[str, Any] | None:
    """The contents of ``audit.json`` in an audit's folder; None if there is none."""
    path = folder / AUDIT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


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
    say: Callable[[str], None] = lambda _: None,
    watch: Watch = lambda _: nullcontext(),
) -> dict[str, Any]:
    """Audits a model, writes the result to a folder, and returns the contents of ``audit.json``.

    A model that has been audited in the same way is not audited again.

    Args:
        checkpoint: The model.
        config: Data and model as it was trained; the radius and norm to audit at.
        folder: Of the result.
        profile_name: ``quick`` or ``reference``.
        images: How many validation images; if None, the profile's minimum or as many as the claim is on.
        seed: In [0, 2^32).
        cuda: Whether to use a GPU; None to use one if there is one.
        splits: ``train`` and ``validation``, if they are loaded already.
        say: Takes a line about the whole audit.
        watch: Follows the audit of one replicate; gets a prefix that says which, if there are several.

    Raises:
        UserError: There are too few images, the data is missing, or a checkpoint cannot be read.
    """
    job = AuditJob(
        title=f"{relative(checkpoint.path.absolute())}: {config.model.title} on {config.data.dataset.title}",
        about={"checkpoint": str(checkpoint.path), "split": _split_of(checkpoint)},
        robustness=config.robustness,
        asked=_asked(checkpoint, config, profile_name, images, seed),
    )
    return run_audit(job, partial(_load, checkpoint, config, cuda, splits), folder, say, watch)


def run_audit(
    job: AuditJob,
    load: Callable[[], Loaded],
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    watch: Watch = lambda _: nullcontext(),
) -> dict[str, Any]:
    """Audits what ``load`` returns and writes the result, unless the folder holds that of an equal audit.

    Other arguments, the result and the errors are those of ``audit_model``.
    """
    asked = job.asked
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # there is none, or none that can be read
        before = json.loads((folder / AUDIT_FILE).read_text(encoding="utf-8"))
    if (before.get("schema"), before.get("asked")) == (SCHEMA, json.loads(json.dumps(asked))):
        say(f"{job.title}: audited before, with the same checkpoint, settings and seed")
        return before
    say(f"{job.title}, {images_text(asked['images'], job.about['split'])}, profile {asked['profile']}")
    loaded = load()
    began = time.monotonic()
    [radius, *_] = job.robustness.radii(loaded.split.images[0].numel())
    audits = _audits(job, loaded, radius, watch)
    document = _document(job, loaded, radius, audits, time.monotonic() - began)
    _write(folder, document, audits, job.title, axis=f"{radius_title(job.robustness)}, pixel units")
    return document


def _asked(
    checkpoint: Checkpoint, config: SweepConfig, profile_name: str, images: int | None, seed: int
) -> dict[str, Any]:
    """All that an audit depends on."""
    # The profiles are in a module that imports torch, which an audit needs anyway.
    from trainables.audit import PROFILES

    split, least = _split_of(checkpoint), PROFILES[profile_name].images
    most = config.data.confirmation_size if split == "confirmation" else config.data.search_size
    count = max(least, config.robustness.images) if images is None else images
    if not least <= count <= most:
        raise UserError(
            f"--images must be from {least} (profile {profile_name}) to {most} (the number of {split} images), "
            f"got {count}; the checkpoint's own images are attacked"
        )
    return asked_of(
        digests={
            "checkpoint": files.sha256(checkpoint.newest),
            "outcomes": files.sha256(checkpoint.outcomes) if checkpoint.outcomes.is_file() else None,
        },
        settings={"data": config.data.to_document(), "model": config.model.to_document()},
        robustness=config.robustness,
        profile=profile_name,
        images=count,
        seed=seed,
    )


def asked_of(
    *,
    digests: Mapping[str, str | None],
    settings: Mapping[str, Any],
    robustness: RobustnessSettings,
    profile: str,
    images: int,
    seed: int,
) -> dict[str, Any]:
    """All that an audit depends on; ``digests`` has the model's as ``checkpoint``, ``settings`` are of data and model.

    Versions are added.
    """
    return {
        **digests,
        "settings": {**settings, "radius": list(_ball(robustness))},
        "profile": profile,
        "images": images,
        "seed": seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def images_text(count: int, split: str) -> str:
    """``500 validation images``; just ``500 images`` if they are not of a split."""
    return f"{count} images" if split == "all" else f"{count} {split} images"


def meaning(document: Mapping[str, Any]) -> str:
    """What the verdict of an ``audit.json`` means, as a sentence."""
    from trainables.audit import WORDS

    return f"{_CLAIMED[document['claimed_by']]} {WORDS[document['verdict']]}."


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict, profile, images and accuracy of an ``audit.json``, on the worst case over the attacks.

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


def chosen_device(cuda: bool | None) -> torch.device:
    """The GPU or the CPU (None: a GPU if there is one). Torch gets one thread per available processor."""
    import torch

    torch.set_num_threads(min(available_cpus(), torch.get_num_threads()))  # OMP_NUM_THREADS is heeded
    return torch.device("cuda" if (torch.cuda.is_available() if cuda is None else cuda) else "cpu")


def load_model(
    path: Path, config: SweepConfig, cuda: bool | None = None, splits: Mapping[str, Split] | None = None
) -> tuple[Mapping[str, Split], list[Replicate]]:
    """The splits that a search sees, loaded unless they are given, and a checkpoint's replicates on the same device.

    Raises:
        UserError: The data is missing, or the checkpoint cannot be read or is of another model.
    """
    from trainables.data.splits import load_splits
    from trainables.training.checkpoint import load_trained

    device = chosen_device(cuda)
    try:
        splits = splits or load_splits(config.data, device)
    except ValueError as error:
        raise UserError(str(error)) from None
    try:
        return splits, load_trained(path, config.problem, splits)
    except ValueError as error:
        raise UserError(f"CHECKPOINT: {error}") from None


def _load(checkpoint: Checkpoint, config: SweepConfig, cuda: bool | None, splits: Mapping[str, Split] | None) -> Loaded:
    """A checkpoint's replicates with what their training claims, and the validation images."""
    splits, replicates = load_model(checkpoint.path, config, cuda, splits)
    outcomes, several = _outcomes(checkpoint, config.robustness, replicates), len(replicates) > 1
    surrogate = None if several else _baseline(checkpoint, config, splits)
    audited = [
        Audited(
            model=replicate.predictor,
            seed=replicate.seed,
            claims=_claims(outcomes, r, checkpoint.config.robustness) if outcomes else (),
            surrogate=replicates[r - 1].predictor if several else surrogate,
        )
        for r, replicate in enumerate(replicates)
    ]
    return Loaded(replicates=audited, split=splits[_split_of(checkpoint)], epoch=replicates[0].epoch)


def _split_of(checkpoint: Checkpoint) -> str:
    """The split on which a finished training was measured: that of the search or of the confirmation."""
    from trainables.robustness import Outcomes

    return Outcomes.load(checkpoint.outcomes).split if checkpoint.outcomes.is_file() else "validation"


def _audits(job: AuditJob, loaded: Loaded, radius: float, watch: Watch) -> list[Audit]:
    """The audit of each replicate on the first images."""
    from trainables.attacks import attack_seed
    from trainables.audit import PROFILES, audit

    asked, several, audits = job.asked, len(loaded.replicates) > 1, []
    attacked = loaded.split[: asked["images"]]
    for r, replicate in enumerate(loaded.replicates):
        with watch(f"replicate {r}: " if several else "") as report:
            try:
                result = audit(
                    replicate.model,
                    attacked.images,
                    attacked.labels,
                    replicate.claims,
                    radius=radius,
                    norm=job.robustness.norm,
                    profile=PROFILES[asked["profile"]],
                    seed=attack_seed(asked["seed"], f"audit/{replicate.seed}"),
                    batch_size=job.robustness.batch_size,
                    surrogate=replicate.surrogate,
                    progress=report,
                )
            except ValueError as error:
                raise UserError(f"audit: {error}") from None
        audits.append(result)
    return audits


def _claims(outcomes: Outcomes, replicate: int, robustness: RobustnessSettings) -> list[Claim]:
    """What a finished training claims of one replicate: its robust accuracy, and each attack's on its first view."""
    from trainables.audit import Claim

    kept = outcomes.kept[replicate, :, :, 0]
    claims = [Claim(ROBUST, robustness.attacks, robustness.views, np.asarray(kept.all(axis=(0, 1))))]
    for a, attack in enumerate(robustness.attacks):
        for name, v in outcomes.shown(a)[:1]:
            claims.append(Claim(name, (attack,), (robustness.views[v],), kept[a, v]))
    return claims


def _ball(robustness: RobustnessSettings) -> tuple[str, float, str]:
    return robustness.norm, robustness.epsilons[0], robustness.eps_convention


def _outcomes(
    checkpoint: Checkpoint, robustness: RobustnessSettings, replicates: Sequence[Replicate]
) -> Outcomes | None:
    """What the training measured, if it did so on this checkpoint, at this radius and in this norm."""
    from trainables.robustness import Outcomes

    measured = checkpoint.config.robustness
    if (
        not checkpoint.outcomes.is_file()
        or replicates[0].epoch < checkpoint.config.train.epochs
        or _ball(robustness) != _ball(measured)
    ):
        return None
    outcomes = Outcomes.load(checkpoint.outcomes)
    labels = tuple(attack.label for attack in measured.attacks)
    seeds = tuple(replicate.seed for replicate in replicates)
    known = outcomes.attacks == labels and outcomes.views == measured.views and outcomes.seeds == seeds
    return outcomes if known else None


def _baseline(checkpoint: Checkpoint, config: SweepConfig, splits: Mapping[str, Split]) -> nn.Module | None:
    """A model to borrow adversarial examples from: the run's first baseline; None where there is none beside it."""
    from trainables.training.checkpoint import load_trained

    folder = checkpoint.folder.parent / SURROGATE
    if checkpoint.number in (None, SURROGATE) or not folder.is_dir():
        return None
    try:
        return load_trained(folder, config.problem, splits)[0].predictor
    except ValueError:  # not trained yet
        return None


def _document(job: AuditJob, loaded: Loaded, radius: float, audits: Sequence[Audit], seconds: float) -> dict[str, Any]:
    """The contents of ``audit.json``."""
    from trainables.audit import worst

    asked, (norm, epsilon, convention) = job.asked, _ball(job.robustness)
    return {
        "schema": SCHEMA,
        **job.about,
        "checkpoint_sha256": asked["checkpoint"],
        "epoch": loaded.epoch,
        "images": asked["images"],
        "norm": norm,
        "epsilon": epsilon,
        "eps_convention": convention,
        "radius": radius,
        "profile": asked["profile"],
        "seed": asked["seed"],
        "seconds": seconds,
        "verdict": worst(result.verdicts[0].word for result in audits),
        "claimed_by": "training" if loaded.replicates[0].claims else "audit",
        "clean": _share(np.stack([result.clean for result in audits])),
        "verified": _share(np.stack([result.verified for result in audits])),
        "upper_bound": any(result.upper_bound for result in audits),
        "replicates": [_replicate(result, each.seed) for result, each in zip(audits, loaded.replicates, strict=True)],
        "asked": asked,
    }


def _replicate(result: Audit, seed: int | None) -> dict[str, Any]:
    main, *single = result.verdicts  # in the order of _claims: the worst case first
    probes = len(result.curve[0][1]) if result.curve else 0
    return {
        "seed": seed,
        "verdict": main.word,
        "clean": _share(result.clean),
        "verified": _share(result.verified),
        "randomised": result.randomised,
        "claim": _claim(main, result),
        "attack_claims": [_claim(verdict, result) for verdict in single],
        "checks": [check.to_json() for check in result.checks],
        "runs": [{**run, "accuracy": _alone(run, result.clean)} for run in result.runs],
        "curve": [{"radius": radius, "images": probes, **_share(kept)} for radius, kept in result.curve],
        "curve_clean": float(result.clean[:probes].mean()) if probes else None,
        "seconds": result.seconds,
    }


def _alone(run: Mapping[str, Any], clean: npt.NDArray[np.bool_]) -> float | None:
    """The accuracy that a run alone leaves; None if it did not end, or did not see every correctly classified image."""
    right = int(clean.sum())
    return (right - run["broken"]) / len(clean) if run["attacked"] == right and not run["error"] else None


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


def _write(folder: Path, document: Mapping[str, Any], audits: Sequence[Audit], title: str, axis: str) -> None:
    """Writes ``audit.npz``, ``audit.json`` and the page ``audit.html``."""
    from analysis.figures.audit import page

    arrays = io.BytesIO()
    images = {name: np.stack([getattr(result, name) for result in audits]) for name in IMAGE_ARRAYS}
    np.savez_compressed(arrays, allow_pickle=False, **images)
    files.write(folder / AUDIT_ARRAYS, arrays.getvalue())
    files.write(folder / AUDIT_FILE, json.dumps(document, indent=2) + "\n")
    files.write(folder / "audit.html", page(document, meaning=meaning(document), title=title, axis=axis))
