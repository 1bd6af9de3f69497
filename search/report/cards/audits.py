"""The audits: the accuracy that the sweep claims, and the accuracy under stronger attacks."""

from __future__ import annotations

from typing import Any

from analysis.records import TrialRecord
from analysis.statistics import Interval
from search.report.card import Card, Cell, Graphic, Table, csv_of, number_cell
from search.report.data import ReportData
from search.results.final import worst_verdict
from search.runs.folder import command
from search.runs.layout import AUDITS

TITLE = "Can the robust accuracy be believed?"

_WORDS = {
    "sound": "stronger attacks lower it by no more than chance",
    "suspicious": "at least one check gives reason to doubt it",
    "masked": "the sweep's attacks missed many adversarial examples",
}


def card(data: ReportData) -> Card:
    """The audited networks of the recommended setting, the front and the baselines."""
    candidates = [data.recommended, *data.data.front, *data.baselines]
    settings = list({each.number: each for each in candidates if each is not None}.values())
    audited = {each.number: data.audits_of(each) for each in settings}
    networks = [(each, number, audit) for each in settings for number, audit in audited[each.number].items()]
    run = data.data.run.argument
    if not networks:
        audit_command = command("audit", run)
        return Card(f"Nothing has been audited, so every robust accuracy is a claim. {audit_command} audits the front.")
    return Card(
        sentence=_sentence(data, [audit for setting, _, audit in networks if setting is settings[0]]),
        graphics=[_graphic(networks)],
        tables=[_table(data, networks), _failed(data, networks)],
        notes=[
            "Claimed: accuracy under the sweep's own attacks. Verified: accuracy under these and the audit's attacks. "
            "Each audit has its own page in the run's folder."
        ],
        downloads={"audits.csv": csv_of([_row(*each) for each in networks])},
    )


def _sentence(data: ReportData, audits: list[dict[str, Any]]) -> str:
    subject = "the recommended setting" if data.recommended is not None else "the first setting on the front"
    if not audits:
        return f"Only other settings have been audited, so the robust accuracy of {subject} is a claim."
    verdict = worst_verdict([audit["verdict"] for audit in audits])
    claims = [replicate["claim"] for audit in audits for replicate in audit["replicates"]]
    claimed, verified = (100 * sum(each[name] for each in claims) / len(claims) for name in ("claimed", "verified"))
    return (
        f"The robust accuracy of {subject} is {verdict}: {_WORDS[str(verdict)]} "
        f"({claimed:.1f} % claimed, {verified:.1f} % verified on the networks audited: {len(claims)}). "
        "The accuracy that is recommended is the mean of all networks, corrected by this difference."
    )


def _claims(audit: dict[str, Any]) -> list[dict[str, Any]]:
    return [replicate["claim"] for replicate in audit["replicates"]]


def _checks(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks on the worst case. Checks on single attacks do not affect the verdict."""
    return [
        check
        for replicate in audit["replicates"]
        for check in replicate["checks"]
        if check["claim"] not in {claim["name"] for claim in replicate["attack_claims"]}
    ]


def _graphic(networks: list[tuple[TrialRecord, str, dict[str, Any]]]) -> Graphic:
    from analysis.figures.plots import Intervals, Row, interval_figure
    from analysis.figures.style import BLUE, COLOURS

    rows = []
    for setting, number, audit in networks:
        colour = COLOURS[0] if setting.is_baseline else BLUE
        for claim in _claims(audit):
            name = (
                f"{setting.number}, unit {number}" if setting.is_baseline else f"trial {setting.number}, unit {number}"
            )
            interval = Interval(100 * claim["verified_low"], 100 * claim["verified_high"])
            rows.append(Row(name, 100 * claim["verified"], interval, colour, before=100 * claim["claimed"]))
    figure = interval_figure([Intervals("Robust accuracy (%)", rows)])
    return Graphic.of(figure, "Verified accuracy with 95 % intervals over the images. Rings: claimed accuracy.")


def _table(data: ReportData, networks: list[tuple[TrialRecord, str, dict[str, Any]]]) -> Table:
    rows = []
    for setting, number, audit in networks:
        checks = _checks(audit)
        failed = sum(check["state"] == "failed" for check in checks)
        for claim in _claims(audit):
            rows.append(
                [
                    Cell(data.name(setting)),
                    Cell(number, link=f"{AUDITS}/{number}/audit.html"),
                    Cell(audit["verdict"], style=audit["verdict"]),
                    number_cell(claim["claimed"], f"{100 * claim['claimed']:.1f} %"),
                    number_cell(claim["verified"], f"{100 * claim['verified']:.1f} %"),
                    number_cell(failed, f"{failed} of {len(checks)}"),
                    Cell(audit["profile"]),
                    number_cell(claim["images"], str(claim["images"])),
                ]
            )
    heading = ["setting", "unit", "verdict", "claimed", "verified", "failed checks", "profile", "images"]
    return Table("The audited networks", heading, rows)


def _failed(data: ReportData, networks: list[tuple[TrialRecord, str, dict[str, Any]]]) -> Table:
    rows = [
        [Cell(data.name(setting)), Cell(number), Cell(check["name"]), Cell(check["sentence"]), Cell(check["source"])]
        for setting, number, audit in networks
        for check in _checks(audit)
        if check["state"] == "failed"
    ]
    return Table("Failed checks", ["setting", "unit", "check", "finding", "source"], rows)


def _row(setting: TrialRecord, number: str, audit: dict[str, Any]) -> dict[str, object]:
    claims = _claims(audit)
    return {
        "setting": setting.number,
        "unit": number,
        "verdict": audit["verdict"],
        "claimed": sum(claim["claimed"] for claim in claims) / len(claims),
        "verified": sum(claim["verified"] for claim in claims) / len(claims),
        "images": claims[0]["images"],
        "profile": audit["profile"],
        "seconds": audit["seconds"],
    }
