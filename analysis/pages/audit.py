"""An audit as one page that needs nothing else: the verdict, accuracy over the radius, the checks and their sources."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analysis.figures.all import BLUE, GREY, INK, style_axes
from trainables import files as atomic

_COLOURS: Final = {"sound": "#009E73", "suspicious": "#E69F00", "masked": "#D55E00"}
_MARKS: Final = {"passed": "✓", "failed": "✗", "not done": "?"}
_STYLE: Final = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin: 0 }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem }}
.verdict {{ border-left: .5rem solid; padding: .6rem 1rem; background: #F6F7F9; margin: 1.2rem 0 }}
.verdict b {{ font-size: 1.6rem; text-transform: capitalize }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #E3E6EA }}
th {{ font-weight: 600; color: #5B6470; font-size: .85rem }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }} th.n {{ text-align: right }}
.failed td:first-child {{ color: #D55E00 }} .passed td:first-child {{ color: #009E73 }}
.failed td:nth-child(2) {{ font-weight: 600 }}
.faint {{ color: #5B6470; font-size: .85rem }}
svg {{ max-width: 100%; height: auto }}
"""


def write_page(document: Mapping[str, Any], path: Path, *, words: Mapping[str, str], title: str, axis: str) -> Path:
    """Writes the page.

    Args:
        document: An ``audit.json``.
        path: The file.
        words: What each verdict means, a sentence each.
        title: Which model on which data.
        axis: What a radius is, with its norm.
    """
    return atomic.write(path, page(document, words=words, title=title, axis=axis))


def page(document: Mapping[str, Any], *, words: Mapping[str, str], title: str, axis: str) -> str:
    """The page as HTML; arguments as of `write_page`."""
    verdict, several = document["verdict"], len(document["replicates"]) > 1
    parts = [
        f"<h1>Can the robust accuracy be believed?</h1><p class=faint>{_text(title)}</p>",
        f'<div class=verdict style="border-color: {_COLOURS[verdict]}"><b>{_text(verdict)}</b><br>'
        f"The robust accuracy that the sweep uses {_text(words[verdict])}.<br>"
        f"Verified accuracy within {document['radius']:.4g} ({_text(document['norm'])}): "
        f"<strong>{_percent(document['verified'])}</strong>, of clean images {_percent(document['clean'])}.</div>",
        f"<p class=faint>Profile {_text(document['profile'])}: {document['images']} {_text(document['split'])} images, "
        f"seed {document['seed']}, {document['seconds']:.0f} s. Verified: the share of images whose label survives "
        "everything that was run. Intervals: 95 %.</p>",
    ]
    for number, replicate in enumerate(document["replicates"]):
        if several:
            parts.append(f"<h2>Replicate {number}, seed {replicate['seed']}: {_text(replicate['verdict'])}</h2>")
        parts += [_claims(replicate), _curve(replicate, document["radius"], axis), _checks(replicate), _runs(replicate)]
    return (
        '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>Audit: {_text(title)}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _claims(replicate: Mapping[str, Any]) -> str:
    rows = [
        [
            ("", _text(claim["name"])),
            ("", _text(claim["evaluation"])),
            ("n", f"{100 * claim['claimed']:.1f}"),
            ("n", f"{100 * claim['verified']:.1f}"),
            ("", f'<b style="color: {_COLOURS[claim["verdict"]]}">{_text(claim["verdict"])}</b>'),
            ("", _text(claim["sentence"])),
        ]
        for claim in [replicate["claim"], *replicate["attack_claims"]]
    ]
    head = [("", "claim"), ("", "evaluation"), ("n", "claimed %"), ("n", "verified %"), ("", "verdict"), ("", "why")]
    return "<h2>What is claimed, and what holds</h2>" + _table(head, rows)


def _checks(replicate: Mapping[str, Any]) -> str:
    order = {"failed": 0, "not done": 1, "passed": 2}
    checks = sorted(replicate["checks"], key=lambda check: order[check["state"]])
    rows = [
        [
            ("", _MARKS[check["state"]]),
            ("", _text(check["name"])),
            ("", _text(check["claim"] or "every claim")),
            ("n", _number(check["value"])),
            ("n", f"{'≥' if check['at_least'] else '≤'} {_number(check['threshold'])}"),
            ("", f"{_text(check['sentence'])}<div class=faint>{_text(check['source'])}</div>"),
        ]
        for check in checks
    ]
    head = [("", ""), ("", "check"), ("", "concerns"), ("n", "measured"), ("n", "wanted"), ("", "what it says")]
    return "<h2>Checks</h2>" + _table(head, rows, [check["state"].replace(" ", "-") for check in checks])


def _runs(replicate: Mapping[str, Any]) -> str:
    rows = [
        [("", _text(run["name"])), ("n", str(run["attacked"])), ("n", str(run["broken"])), ("", _text(run["error"]))]
        for run in replicate["runs"]
    ]
    head = [("", "attack"), ("n", "images attacked"), ("n", "broken"), ("", "")]
    return "<h2>What was run</h2>" + _table(head, rows)


def _curve(replicate: Mapping[str, Any], radius: float, axis: str) -> str:
    """Accuracy over the radius as an inline picture; empty where it could not be measured."""
    points = replicate["curve"]
    if not points:
        return ""
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
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    note = (
        f"Of the first {points[0]['images']} images, each radius attacked from the clean images anew with a few steps; "
        "it must fall to 0. The last radius reaches plain grey."
    )
    return f"<h2>Accuracy over the radius</h2>{svg[svg.index('<svg') :]}<p class=faint>{note}</p>"


def _table(
    head: Sequence[tuple[str, str]], rows: Iterable[Sequence[tuple[str, str]]], classes: Sequence[str] | None = None
) -> str:
    """A table of cells (class, HTML)."""
    names = [f"<th class='{kind}'>{text}</th>" for kind, text in head]
    body = [
        f"<tr class='{classes[i] if classes else ''}'>"
        + "".join(f"<td class='{kind}'>{text}</td>" for kind, text in row)
        + "</tr>"
        for i, row in enumerate(rows)
    ]
    return f"<table><thead><tr>{''.join(names)}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['accuracy']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _text(value: Any) -> str:
    return html.escape(str(value))
