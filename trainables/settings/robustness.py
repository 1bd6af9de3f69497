"""What robust accuracy means: attacks, views and radii."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from trainables.settings.checks import check_choice

Norm = Literal["l2", "linf"]
AttackLoss = Literal["ce", "dlr"]
AttackTarget = Literal["untargeted", "least-likely", "likeliest"]
Basis = Literal["pixel", "dct"]
View = Literal["normalized", "raw", "rescaled"]

TORCHATTACKS_PREFIX: Final = "torchattacks."

# Stands in a view's place in the name of an attack's accuracy at worst over its views.
WORST_VIEW: Final = "worst"

# The attack classes of torchattacks 3.5.1 that need no more than a model (a test compares; LGV wants a training set,
# MultiAttack a list of attacks), here so that a typing error is found without torch.
TORCHATTACKS: Final = tuple(
    TORCHATTACKS_PREFIX + name
    for name in (
        "VANILA",
        "GN",
        "FGSM",
        "BIM",
        "RFGSM",
        "PGD",
        "EOTPGD",
        "FFGSM",
        "TPGD",
        "MIFGSM",
        "UPGD",
        "APGD",
        "APGDT",
        "DIFGSM",
        "TIFGSM",
        "Jitter",
        "NIFGSM",
        "PGDRS",
        "SINIFGSM",
        "VMIFGSM",
        "VNIFGSM",
        "SPSA",
        "JSMA",
        "EADL1",
        "EADEN",
        "PIFGSM",
        "PIFGSMPP",
        "CW",
        "PGDL2",
        "DeepFool",
        "PGDRSL2",
        "SparseFool",
        "OnePixel",
        "Pixle",
        "FAB",
        "AutoAttack",
        "Square",
    )
)


@dataclass(frozen=True)
class AttackSpec:
    """What an attack can be asked for.

    Args:
        defaults: Its settings (fields of `AttackSettings`) with their defaults.
        shown: Those that its label always says, in order.
        norms: The balls that it knows.
        targets: What its ``target`` can be.
    """

    defaults: Mapping[str, Any]
    shown: tuple[str, ...] = ()
    norms: tuple[Norm, ...] = get_args(Norm)
    targets: tuple[AttackTarget, ...] = ("untargeted",)


# Defaults are the sources' own: AutoAttack's for APGD, FAB and Square (Croce and Hein 2020), Guo et al. 2019 for SimBA.
ATTACKS: Final[Mapping[str, AttackSpec]] = {
    "pgd": AttackSpec(
        {"loss": "ce", "target": "untargeted", "steps": 50, "restarts": 1},
        ("steps", "loss"),
        targets=("untargeted", "least-likely"),
    ),
    "apgd": AttackSpec(
        {"loss": "ce", "target": "untargeted", "steps": 100, "restarts": 1, "targets": 9},
        ("steps", "loss"),
        targets=("untargeted", "likeliest"),
    ),
    "deepfool": AttackSpec({"steps": 50, "candidates": 10, "overshoot": 0.02}, norms=("l2",)),
    "fab": AttackSpec(
        {"target": "untargeted", "steps": 100, "restarts": 1, "targets": 9},
        ("steps",),
        targets=("untargeted", "likeliest"),
    ),
    "square": AttackSpec({"queries": 5000, "share": 0.8}, ("queries",)),
    "simba": AttackSpec({"queries": 300, "step": 0.2, "basis": "pixel"}, ("queries", "basis"), norms=("l2",)),
    "noise": AttackSpec({"queries": 1000}, ("queries",)),
    "autoattack": AttackSpec({}),
}


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """One attack of the worst case. A setting that the attack does not have is None; `ATTACKS` says which it has.

    Args:
        name: One of `ATTACKS`, or ``torchattacks.NAME`` for a class of torchattacks (``torchattacks.APGD``).
        loss: What PGD and APGD climb: cross entropy, or the margin loss of Croce and Hein 2020 (DLR), which no scale of
            the logits can blunt.
        target: ``untargeted``; towards the class that the model finds ``least-likely``; or towards each of the
            ``targets`` ``likeliest`` wrong classes in turn.
        steps: Gradient steps.
        restarts: Random starts; the worst counts for each image.
        targets: Wrong classes that a targeted attack tries.
        queries: Images that a black-box attack may ask about.
        candidates: Classes whose boundaries DeepFool looks at, the true one among them.
        overshoot: By which share DeepFool goes past the boundary.
        share: Of the pixels that Square's first squares cover.
        step: How far SimBA moves along a direction, in pixel units.
        basis: SimBA's directions.
        views: The logits that it sees, of those that all attacks see; None for all of these.
        remaining: Whether it attacks only what the attacks before it, on all views, have left standing: the same worst
            case for less, and no accuracy of its own.
        eot: Evaluations whose mean stands for one, for a model that draws at random.
        options: Keyword arguments for the torchattacks class (``norm`` and ``eps`` are set for it).
    """

    name: str
    loss: AttackLoss | None = None
    target: AttackTarget | None = None
    steps: int | None = None
    restarts: int | None = None
    targets: int | None = None
    queries: int | None = None
    candidates: int | None = None
    overshoot: float | None = None
    share: float | None = None
    step: float | None = None
    basis: Basis | None = None
    views: tuple[View, ...] | None = None
    remaining: bool = False
    eot: int = 1
    options: Mapping[str, float | int | bool | str] | None = None

    def __post_init__(self) -> None:
        if self.name not in ATTACKS and self.name not in TORCHATTACKS:
            check_choice("name", self.name, (*ATTACKS, *TORCHATTACKS))
        spec = ATTACKS.get(self.name)
        if spec is not None and self.options:
            raise ValueError(
                f"options must be left out for {self.name}, got {dict(self.options)}; "
                f"it has {', '.join(spec.defaults) or 'no settings'}"
            )
        defaults = spec.defaults if spec is not None else {}
        for name in _ATTACK_SETTINGS:
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, defaults.get(name))  # frozen: as dataclasses' own __init__ does it
            elif name not in defaults:
                remedy = f"it has {', '.join(defaults) or 'none'}" if spec else "its own arguments go into options"
                raise ValueError(f"{name} must be left out for {self.name}, got {value}; {remedy}")
        if self.loss is not None:
            check_choice("loss", self.loss, get_args(AttackLoss))
        if self.target is not None and spec is not None:
            check_choice("target", self.target, spec.targets)
        if self.basis is not None:
            check_choice("basis", self.basis, get_args(Basis))
        for name, least in (
            ("steps", 1),
            ("restarts", 1),
            ("targets", 1),
            ("queries", 1),
            ("candidates", 2),
            ("eot", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}; give a larger number")
        for name, most in (("overshoot", math.inf), ("share", 1.0), ("step", math.inf)):
            value = getattr(self, name)
            if value is not None and not (0 < value <= most and math.isfinite(value)):
                limit = f"in (0, {most:g}]" if math.isfinite(most) else "above 0"
                raise ValueError(f"{name} must be {limit}, got {value:g}; leave it out for {defaults[name]:g}")

    @property
    def norms(self) -> tuple[Norm, ...]:
        """The balls that the attack knows; a class of torchattacks is asked for any."""
        spec = ATTACKS.get(self.name)
        return spec.norms if spec is not None else get_args(Norm)

    @property
    def label(self) -> str:
        """The attack's name in records, columns and pictures, e.g. ``pgd50-dlr`` or ``torchattacks.APGD``."""
        spec = ATTACKS.get(self.name)
        parts = [self.name]
        if spec is not None:
            count = next((name for name in spec.shown if name in ("steps", "queries")), None)
            parts = [f"{self.name}{getattr(self, count) if count else ''}"]
            parts += [str(getattr(self, name)) for name in spec.shown if name != count]
            if self.target not in (None, "untargeted"):
                parts.append(str(self.target))
            others = {name: value for name, value in spec.defaults.items() if name not in (*spec.shown, "target")}
            given = {name: getattr(self, name) for name in others}
            parts += [f"{name}={value}" for name, value in given.items() if value != others[name]]
        parts += [f"{key}={value}" for key, value in (self.options or {}).items()]
        return "-".join(parts) + (f"-eot{self.eot}" if self.eot > 1 else "")


_ATTACK_SETTINGS: Final = tuple(
    field.name for field in fields(AttackSettings) if field.name not in ("name", "views", "remaining", "eot", "options")
)


# What an audit needs at least, in images, by its profile (``trainables.audit``): the more, the stronger it is.
AUDITED_IMAGES: Final[Mapping[str, int]] = {"quick": 500, "reference": 1000}


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings:
    """What robust accuracy means: the per-image worst case over ``attacks`` and ``views`` within ``epsilon``.

    Args:
        attacks: The attacks.
        norm: The threat model: ``l2`` or ``linf`` balls on pixels in [0, 1].
        epsilon: Radius of the ball, in the unit that ``eps_convention`` says, or several: robust accuracy is that at
            the first, and reported at every one.
        eps_convention: ``l2``: epsilon is the radius; ``rms``: the radius is epsilon * sqrt(d) for d values an image
            (of L2 balls).
        views: The logits that attacks see: ``normalized`` f = z / ||z||, ``raw`` z, or ``rescaled``: z times the
            constant that gives the validation images' logits a mean norm of 10.
        images: How many validation images are attacked, from the first on (every prefix is stratified).
        batch_size: Images an attack step.
        gate: ``audit``: every trial of a sweep has a quick audit after its evaluation (three times as long as the
            evaluation), and the sampler is told the verified number.
    """

    attacks: tuple[AttackSettings, ...] = (AttackSettings(name="pgd"), AttackSettings(name="pgd", loss="dlr"))
    norm: Norm = "l2"
    epsilon: float | tuple[float, ...] = 1.5
    eps_convention: Literal["l2", "rms"] = "l2"
    views: tuple[View, ...] = ("normalized", "raw")
    images: int = 500
    batch_size: int = 128
    gate: Literal["audit"] | None = None

    def __post_init__(self) -> None:
        if self.gate is not None:
            check_choice("gate", self.gate, ("audit",))
        if not self.attacks:
            raise ValueError("attacks must name at least one attack, got []; add {name: pgd}")
        labels = [attack.label for attack in self.attacks]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"attacks must differ from each other, got {label} twice; remove one")
        if self.attacks[0].remaining:
            raise ValueError(
                f"attacks[0].remaining must be false, got true for {labels[0]}; nothing was attacked before it"
            )
        if not self.views:
            raise ValueError("views must name at least one view, got []; write [normalized, raw]")
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views must differ from each other, got {list(self.views)}; remove one")
        check_choice("norm", self.norm, get_args(Norm))
        for i, attack in enumerate(self.attacks):
            if attack.views is not None and not (attack.views and set(attack.views) <= set(self.views)):
                raise ValueError(
                    f"attacks[{i}].views must be some of the views {', '.join(self.views)}, "
                    f"got {list(attack.views)}; leave it out for all of them"
                )
        for attack in self.attacks:
            if self.norm not in attack.norms:
                raise ValueError(
                    f"norm must be {' or '.join(attack.norms)} for {attack.name}, got {self.norm}; remove the attack"
                )
        check_choice("eps_convention", self.eps_convention, ("l2", "rms"))
        if self.norm != "l2" and self.eps_convention != "l2":
            raise ValueError(
                f"eps_convention must be left out for {self.norm} balls, got {self.eps_convention}; remove it"
            )
        for view in self.views:
            check_choice("views", view, get_args(View))
        if not self.epsilons:
            raise ValueError("epsilon must name at least one radius, got []; 1.5 is usual for L2 on 28x28 digits")
        for epsilon in self.epsilons:
            if not (math.isfinite(epsilon) and epsilon > 0):
                raise ValueError(f"epsilon must be above 0, got {epsilon:g}; 1.5 is usual for L2 on 28x28 digits")
        if len(set(self.epsilons)) < len(self.epsilons):
            raise ValueError(f"epsilon must not name a radius twice, got {list(self.epsilons)}; remove one")
        for name in ("images", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}; give a number of images")

    @property
    def accuracy_names(self) -> list[str]:
        """Of every attack that has an accuracy of its own."""
        return [
            name
            for attack in self.attacks
            if not attack.remaining
            for name in accuracy_names(attack.label, self.views_of(attack))
        ]

    def views_of(self, attack: AttackSettings) -> tuple[View, ...]:
        """The views that one of the attacks sees, in the order of all."""
        return tuple(view for view in self.views if attack.views is None or view in attack.views)

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The radii as configured; the objective is measured at the first."""
        return self.epsilon if isinstance(self.epsilon, tuple) else (self.epsilon,)

    def radii(self, values: int) -> tuple[float, ...]:
        """The radii on images of ``values`` numbers (channels * height * width), in pixel units."""
        unit = math.sqrt(values) if self.eps_convention == "rms" else 1.0
        return tuple(epsilon * unit for epsilon in self.epsilons)


def accuracy_names(attack: str, views: Sequence[str]) -> list[str]:
    """What an attack's accuracies are called: on its first view, and, where there are several, at worst over them.

    Args:
        attack: The attack's label.
        views: The views that it sees, in their order, at least one.

    Returns:
        For example ``pgd50-ce/normalized`` and ``pgd50-ce/worst``.
    """
    return [f"{attack}/{views[0]}", f"{attack}/{WORST_VIEW}"][: len(views)]


def robust_accuracy_name(epsilon: float) -> str:
    """What the robust accuracy at a further radius is called, e.g. ``robust_accuracy@2``."""
    return f"robust_accuracy@{epsilon:g}"
