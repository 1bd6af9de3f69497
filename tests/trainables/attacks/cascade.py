"""AutoAttack with other parts."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.attacks.autoattack import AutoAttack, Part


@dataclass(frozen=True, kw_only=True)
class Cascade(AutoAttack):
    """AutoAttack's cascade over the given attacks."""

    given: tuple[Part, ...]

    def parts(self) -> tuple[Part, ...]:
        return self.given
