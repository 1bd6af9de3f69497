"""No defence."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.defences import Defence
from trainables.registry import register


@register("none")
@dataclass(frozen=True, kw_only=True)
class NoDefence(Defence):
    """Training on the images as they are."""
