"""The audit of anyone's torch module, named by its import path, on a data set or a folder of pictures.

Nothing is claimed of such a module: the audit judges its own first evaluation, and says what is left in the end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console

from analysis.statistics import wilson_interval
from search.errors import UserError
from search.evaluation.audit import print_audit
from search.evaluation.progress import progress
from search.evaluation.test_split import Frozen, Opening, record_and_announce
from search.results.audits import Audited, AuditJob, Loaded, asked_of, chosen_device, run_audit
from search.runs.folder import relative
from search.runs.provenance import source_digest
from search.runs.store import is_url
from trainables import files
from trainables.data import LabelledImages
from trainables.data.partition.sample import SampledSplit, read_sample
from trainables.models import Model, Shape, build_model, check_logits
from trainables.registry import make, names
from trainables.settings import AUDITED_IMAGES, DataSettings, Norm, RobustnessSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDER: Final = "audited"  # of the results, in the runs folder
_PICTURES: Final = "image-folder"
_RGB: Final = 3
_CHANNELS: Final = {1: "grey", _RGB: "RGB"}


@dataclass(frozen=True, kw_only=True)
class ModuleSettings:
    """A module and its threat model, as the command line has them.

    Args:
        module: ``package.module:factory``.
        weights: The file of its state dict; None if the factory loads its weights itself.
        data: The name or import path of a data set, or a folder of pictures.
        root: The folder of a data set's files, as ``data.root``.
        size: As ``data.size``.
        split: Which images; None for those that the module was least likely trained on.
        epsilon: The radius in pixel units, above 0: a number or a fraction (``8/255``).
        norm: Of the ball; None for ``l2``.
        mean: What the module expects to have been subtracted from each channel, separated by commas; None for nothing.
        std: What it expects each channel to have been divided by then.
    """

    module: str
    weights: Path | None = None
    data: str | None = None
    root: str | None = None
    size: int | None = None
    split: SampledSplit | None = None
    epsilon: str | None = None
    norm: Norm | None = None
    mean: str | None = None
    std: str | None = None


class _Sample(NamedTuple):
    """The images to attack, and where they are from."""

    images: LabelledImages
    split: SampledSplit
    source: str  # for people and for the name of a folder


def is_module(subject: str) -> bool:
    """Whether what is to be audited is an import path, and no run or checkpoint."""
    return ":" in subject and not is_url(subject) and not Path(subject).exists()


def audit_module(
    settings: ModuleSettings,
    profile: str,
    images: int | None,
    seed: int,
    cuda: bool | None,
    output: Path | None,
    runs_dir: Path,
    typed: str,
    console: Console,
) -> None:
    """Audits a module, shows the result, and writes it to ``output``, by default a folder under ``runs_dir``.

    For images of a test split, the opening is recorded in that folder before the module sees one, with the command line
    as ``typed``. The other arguments are those of ``audit_model``.

    Raises:
        UserError: A setting is not legal, or module, weights and images do not fit each other.
    """
    import torch

    from trainables.data.splits import to_device

    robustness = _robustness(settings)
    device = chosen_device(cuda)
    say = partial(console.print, soft_wrap=True, markup=False)
    try:
        model: Model = make("model", settings.module)
    except ValueError as error:
        raise UserError(f"MODULE: {error}") from None
    data, weights = _data(settings), settings.weights
    sample = _sample(settings, data, AUDITED_IMAGES[profile], images, say)
    words = [model.title, *([weights.stem] if weights else []), sample.source, sample.split]
    ball = [robustness.norm, f"{robustness.epsilons[0]:.4g}"]
    folder = output or runs_dir / FOLDER / "-".join(word.replace("/", "-") for word in [*words, *ball])
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        module, shown = _module(model, settings, sample.images, say)
        if sample.split == "test":
            sha256 = files.sha256(weights) if weights else _digest(module)
            frozen = Frozen(checkpoint=str(weights or settings.module), sha256=sha256, setting=None)
            opening = Opening(command=typed, models=[frozen], robustness=robustness)
            record_and_announce(opening, data, folder, console)
        loaded = Loaded(replicates=[Audited(model=module.to(device))], split=to_device(shown, device))
        _say_accuracy(loaded, say)
    job = AuditJob(
        title=f"{settings.module}{f' with {weights.name}' if weights else ''} on {sample.source}",
        about={"module": settings.module, "checkpoint": str(weights) if weights else None, "split": sample.split},
        robustness=robustness,
        asked=asked_of(
            digests={"checkpoint": _digest(module), "outcomes": None, "source": source_digest([settings.module])},
            settings={"data": shown.digest(), "model": model.to_document()},
            robustness=robustness,
            profile=profile,
            images=len(shown),
            seed=seed,
        ),
    )
    document = run_audit(job, lambda: loaded, folder, say, partial(progress, console))
    print_audit(console, document)
    console.print(f"Written to {relative(folder.absolute())}", soft_wrap=True)


def _robustness(settings: ModuleSettings) -> RobustnessSettings:
    if settings.epsilon is None:
        raise UserError("--epsilon must be given for a module, got nothing; it is the radius on pixels in [0, 1]")
    numerator, _, denominator = settings.epsilon.partition("/")
    try:
        epsilon = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--epsilon must be a number, got {settings.epsilon}; write 0.5 or 8/255") from None
    try:
        return RobustnessSettings(norm=settings.norm or "l2", epsilon=epsilon)
    except ValueError as error:
        raise UserError(f"--{error}") from None


def _sample(
    settings: ModuleSettings, data: DataSettings, least: int, images: int | None, say: partial[None]
) -> _Sample:
    """The images to attack: from the given split, or else from images that the training most likely did not use."""
    count = least if images is None else images
    if count < least:
        raise UserError(f"--images must be at least {least} for this profile, got {count}; leave it out")
    folder = Path(data.root or "") if data.name == _PICTURES else None
    try:
        reader = data.dataset.reader(data.root)
        kept: list[SampledSplit] = [split for split in ("test", "validation") if split in reader.parts]
        whole: list[SampledSplit] = ["all"] if folder is not None and not (folder / "train").is_dir() else []
        split = settings.split or [*kept, *whole, "test"][0]
        if split == "all" and len(reader.parts) > 1:
            raise ValueError(f"--split must be {' or '.join(kept)} for {settings.data}, got all; choose one")
        pictures, total = read_sample(data, reader, split, count)
    except ValueError as error:
        raise UserError(_in_options(error)) from None
    source = str(relative(folder)) if folder else data.dataset.title
    cut = "" if split == "all" or split in kept else ", split off as for a sweep"
    if total < count:
        raise UserError(
            f"--data must have {count} images, got {source} with {total} ({split}{cut}); choose another --split"
        )
    height, width, channels = pictures.shape
    colours = _CHANNELS.get(channels, f"{channels} channels")
    name = "images" if split == "all" else f"{split} images"
    say(f"{count:,} of {total:,} {name} of {source}{cut}: {width}x{height} {colours}, {pictures.classes} classes")
    return _Sample(pictures, split, source)


def _data(settings: ModuleSettings) -> DataSettings:
    """The data set by its name, or a folder of pictures as one; its ``test`` or ``val`` if it has no ``train``."""
    known = [name for name in names("data") if name != _PICTURES]
    if settings.data is None:
        raise UserError(f"--data must be given for a module, got nothing; give {', '.join(known)} or a folder")
    name, root, folder = settings.data, settings.root, Path(settings.data).expanduser().absolute()
    if name not in known and folder.is_dir():
        if root is not None:
            raise UserError(f"--root must be left out for a folder of pictures, got {root}; remove it")
        inside = {entry.name for entry in folder.iterdir() if entry.is_dir()}
        part = "" if inside - {"test", "val"} else max(inside, key=("val", "test").index, default="")
        name, root = _PICTURES, str(folder / part)
    elif name not in known and ":" not in name:
        raise UserError(f"--data must be {', '.join(known)} or a folder of pictures, got {name}; correct the path")
    try:
        return DataSettings.from_document({"name": name, "root": root, "size": settings.size})
    except ValueError as error:
        raise UserError(f"--data: {error}") from None


def _in_options(error: ValueError) -> str:
    """An error of a data set, which knows settings by their names in a configuration."""
    text = str(error)
    for key, option in {"data.root": "--data", "data.name": "--data", "data.size": "--size"}.items():
        text = text.replace(key, option)
    return text


def _module(
    model: Model, settings: ModuleSettings, pictures: LabelledImages, say: partial[None]
) -> tuple[nn.Module, LabelledImages]:
    """The module with its weights, in evaluation mode, on images in [0, 1]; and the images with as many channels.

    Grey images become RGB for a module that takes no others.
    """
    from torch import nn

    from trainables.models.layers.blocks import Normalization
    from trainables.training.weights import put_in, read_weights

    height, width, channels = pictures.shape
    grey, rgb = ((count, height, width) for count in (1, _RGB))
    if channels == 1 and not _takes(model, grey, pictures.classes) and _takes(model, rgb, pictures.classes):
        pictures = pictures.with_channels(_RGB)
        say("The module takes no grey images: they are given as RGB")
    shape, classes = (pictures.shape[2], height, width), pictures.classes
    try:
        module = build_model(model, shape, classes)
        check_logits(module, settings.module, shape, classes)
    except ValueError as error:
        raise UserError(f"MODULE: {error}") from None
    if settings.weights is not None:
        try:
            put_in(module, read_weights(settings.weights), f"{settings.module} with {classes} classes")
        except ValueError as error:
            raise UserError(f"--weights {error}") from None
    if settings.mean is None and settings.std is None:
        return module, pictures
    mean, deviation = (_per_channel(name, getattr(settings, name), shape[0]) for name in ("mean", "std"))
    return nn.Sequential(Normalization(mean, deviation), module).eval(), pictures


def _takes(model: Model, shape: Shape, classes: int) -> bool:
    """Whether images of a shape pass the module, whatever it returns."""
    import torch

    try:
        with torch.no_grad():
            build_model(model, shape, classes).eval()(torch.zeros(2, *shape))
    except Exception:  # a user's model fails in its own way
        return False
    return True


def _per_channel(name: str, text: str | None, channels: int) -> Tensor:
    """The numbers of --mean or --std, (channels,)."""
    import torch

    try:
        values = torch.tensor([float(number) for number in (text or "").split(",")])
    except ValueError:
        values = torch.zeros(0)
    legal = len(values) in (1, channels) and values.isfinite().all() and (name == "mean" or (values > 0).all())
    if not legal:
        rule = "numbers" if name == "mean" else "numbers above 0"
        raise UserError(
            f"--{name} must be {channels} {rule} with commas, got {text or 'nothing'}; give both, such as 0.5,0.5,0.5"
        )
    return values.expand(channels)


def _say_accuracy(loaded: Loaded, say: partial[None]) -> None:
    """Says what share of the images is classified correctly, before hours are spent on attacks."""
    import torch

    images, labels = loaded.split.images, loaded.split.labels
    with torch.no_grad():
        predicted = torch.cat([loaded.replicates[0].model(part).argmax(1) for part in images.split(128)])
    right = int((predicted == labels).sum())
    say(f"Clean accuracy {100 * right / len(labels):.1f} %")
    low, _ = wilson_interval(right, len(labels))
    if low <= 1 / loaded.split.classes:
        say("That is no more than chance: check --weights, --mean and --std, --size, and the order of the classes")


def _digest(module: nn.Module) -> str:
    """SHA-256 of the module's parameters and buffers, wherever they came from."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()
