"""The page of an audit: the verdict on the number that the sweep uses, then everything behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.figures.style import BLUE, GREY, render, style_axes, svg

if TYPE_CHECKING:
    from markupsafe import Markup

_ORDER = {"failed": 0, "not done": 1, "passed": 2}


def page(document: Mapping[str, Any], *, meaning: str, title: str, axis: str) -> str:
    """The page of an audit as HTML.

    Args:
        document: The content of an ``audit.json``.
        meaning: What its verdict means, in a sentence.
        title: Which model on which data.
        axis: The label of the radius axis, with its norm.
    """
    return render(
        "audit.html",
        audit=document,
        title=title,
        meaning=meaning,
        replicates=[_replicate(replicate, document["radius"], axis) for replicate in document["replicates"]],
    )


def _replicate(replicate: Mapping[str, Any], radius: float, axis: str) -> dict[str, Any]:
    """A replicate with its picture, and its checks in two lists: on the number used, and on single attacks."""
    single = {claim["name"] for claim in replicate["attack_claims"]}
    checks = sorted(replicate["checks"], key=lambda check: _ORDER[check["state"]])
    return {
        **replicate,
        "checks": [check for check in checks if check["claim"] not in single],
        "attack_checks": [check for check in checks if check["claim"] in single],
        "picture": _picture(replicate, radius, axis),
    }


def _picture(replicate: Mapping[str, Any], radius: float, axis: str) -> Markup | None:
    """Accuracy over the radius as an inline SVG in the page's own colours; None if it could not be measured."""
    points = replicate["curve"]
    if not points:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = figure.subplots()
    style_axes(axes)
    radii = [0.0, *(point["radius"] for point in points)]
    accuracies = [replicate["curve_clean"], *(point["accuracy"] for point in points)]
    axes.plot(radii, [100 * accuracy for accuracy in accuracies], color=BLUE, marker="o", lw=2.2)
    low, high = ([100 * point[end] for point in points] for end in ("low", "high"))
    axes.fill_between(radii[1:], low, high, color=BLUE, alpha=0.15, lw=0)
    axes.axvline(radius, color=GREY, ls="--", lw=1)
    axes.annotate(" audited", (radius, 97), color=GREY, fontsize=9)
    axes.set_xlabel(axis)
    axes.set_ylabel("Accuracy (%)")
    axes.set(xlim=(0, None), ylim=(0, 101))
    return svg(figure)
