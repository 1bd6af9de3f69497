"""Any attack of torchattacks by its class's name, judged by our ball and leaving no trace."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trainables.attacks.engine.attack import Attack
from trainables.registry import register
from trainables.settings.checks import check_choice, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.attacks.engine.batch import Batch
    from trainables.attacks.engine.victim import Victim

# The attack classes of torchattacks 3.5.1 that need no more than a model (LGV needs a training set, MultiAttack a list
# of attacks), except FAB, Square and AutoAttack, which are ours alone. They are listed so that a typing error is found
# without importing torch; a test compares.
CLASSES: Final = (
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
)

# What torchattacks calls the norms.
_NORMS: Final = {"l2": "L2", "linf": "Linf"}


@register("torchattacks")
@dataclass(frozen=True, kw_only=True)
class Torchattacks(Attack):
    """One class of torchattacks.

    ``norm``, ``eps=radius``, ``n_classes`` and ``seed`` are passed where the constructor has them and the options do
    not. What comes back is clipped to [0, 1] and counts only inside the ball: an attack that knows only another norm
    (FGSM and PGD know no L2) runs, and breaks only what it happens to break within the ball. NaN counts as not broken.

    Attacks that draw at random draw for a whole batch, so an image's outcome depends on the images next to it.

    Args:
        attack: The name of the class.
        options: Keyword arguments of its constructor.
    """

    source: ClassVar[str] = "Kim 2020, torchattacks 3.5.1 (arXiv:2010.01950)"

    judged_at_end: ClassVar[bool] = True

    attack: str
    options: Mapping[str, float | int | bool | str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("attack", self.attack, CLASSES)
        if self.options is not None and not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a mapping, got {self.options}; write {{steps: 50}}")

    @property
    def description(self) -> str:
        """For example ``torchattacks.APGD-steps=50``."""
        return "-".join(
            [f"torchattacks.{self.attack}", *(f"{key}={value}" for key, value in (self.options or {}).items())]
        )

    def prepare(self) -> None:
        """Checks the options against the class's constructor.

        Raises:
            ValueError: The class takes no such argument.
        """
        known = self._arguments
        for option in self.options or {}:
            if option not in known:
                remedy = nearest(option, known) if known else "it takes none"
                raise ValueError(f"options must be arguments of {self.attack}, got {option}; {remedy}")

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Runs the attack on one batch after another, each from the same seed."""
        from trainables.attacks.engine.foreign import judged

        self.prepare()
        known = self._arguments

        def perturb(model: nn.Module, part: Batch) -> Tensor:
            given = {
                "norm": _NORMS[part.ball.norm],
                "eps": part.radius,
                "n_classes": part.clean_logits.shape[1],
                "seed": seed,
            }
            arguments = {name: value for name, value in given.items() if name in known} | dict(self.options or {})
            with _quiet():
                attack = self._class(model, **arguments)
                attack.set_device(part.clean.device)
                found: Tensor = attack(part.clean.contiguous(), part.labels.clone())
            return found

        return judged(perturb, victim, batch, seed=seed, batch_size=batch_size, project=False)

    @property
    def _class(self) -> Any:
        import torchattacks

        return getattr(torchattacks, self.attack)

    @property
    def _arguments(self) -> list[str]:
        return [name for name in inspect.signature(self._class).parameters if name != "model"]


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
