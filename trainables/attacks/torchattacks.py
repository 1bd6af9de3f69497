"""Any attack of torchattacks by its class's name, judged by our ball and leaving no trace."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trainables.attacks.engine.attack import Attack, Batch
from trainables.registry import register
from trainables.settings.checks import check_choice, nearest

if TYPE_CHECKING:
    from torch import nn

    from trainables.attacks.engine.victim import Victim

# The attack classes of torchattacks 3.5.1 that need no more than a model (LGV needs a training set, MultiAttack a list
# of attacks), except FAB, Square and AutoAttack, which are ours alone. They are listed so that a typing error is found
# without importing torch; a test compares.
CLASSES: Final = (
    "VANILA", "GN", "FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "APGD", "APGDT",
    "DIFGSM", "TIFGSM", "Jitter", "NIFGSM", "PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM", "SPSA", "JSMA", "EADL1", "EADEN",
    "PIFGSM", "PIFGSMPP", "CW", "PGDL2", "DeepFool", "PGDRSL2", "SparseFool", "OnePixel", "Pixle",
)  # fmt: skip


@register("torchattacks")
@dataclass(frozen=True, kw_only=True)
class Torchattacks(Attack):
    """The class ``attack`` of torchattacks; ``options`` are keyword arguments of its constructor.

    ``norm``, ``eps=radius``, ``n_classes`` and ``seed`` are passed where the constructor has them and the options do
    not. What comes back is clipped to [0, 1] and counts only inside the ball: an attack that knows only another norm
    (FGSM and PGD know no L2) runs, and breaks only what it happens to break within the ball. NaN counts as not broken.
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
        options = (f"{key}={value}" for key, value in (self.options or {}).items())
        return "-".join([f"torchattacks.{self.attack}", *options])

    def prepare(self) -> None:
        _, known = self._constructor()
        for option in self.options or {}:
            if option not in known:
                remedy = nearest(option, known) if known else "it takes none"
                raise ValueError(f"options must be arguments of {self.attack}, got {option}; {remedy}")

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        from trainables.attacks.engine.victim import judged

        self.prepare()
        constructor, known = self._constructor()

        def perturb(model: nn.Module, part: Batch) -> Any:
            norm, classes = part.ball.norm.capitalize(), part.clean_logits.shape[1]  # they write L2 and Linf
            offered = {"norm": norm, "eps": part.radius, "n_classes": classes, "seed": seed}
            arguments = {name: value for name, value in offered.items() if name in known} | dict(self.options or {})
            with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
                attack = constructor(model, **arguments)
                attack.set_device(part.clean.device)
                return attack(part.clean.contiguous(), part.labels.clone())

        return judged(perturb, victim, batch, seed, batch_size, project=False)

    def _constructor(self) -> tuple[Any, list[str]]:
        """The class, and the names of its arguments but the model."""
        import torchattacks

        constructor = getattr(torchattacks, self.attack)
        return constructor, [name for name in inspect.signature(constructor).parameters if name != "model"]
