"""The learning curves."""

from __future__ import annotations

from search.report.card import Card, Graphic, csv
from search.report.data import ReportData
from search.results.reports.curves import epochs_of, picture
from trainables.metrics import is_accuracy

TITLE = "Learning curves"


def card(data: ReportData) -> Card:
    """Loss and accuracy over the epochs of each setting's first network."""
    epochs = epochs_of(data.data)
    if epochs.empty:
        return Card("No epoch has been recorded.")
    curves = picture(data.data, epochs)
    caption = f"Thick lines: baselines. {curves.note}"
    return Card(
        sentence=_sentence(data),
        graphics=[Graphic(curves.svg(), caption, float(curves.static.get_figwidth()))],
        downloads={"learning-curves.csv": csv(epochs)},
    )


def _sentence(data: ReportData) -> str:
    """Whether validation accuracy was still rising at the end of training."""
    name = "validation_accuracy"
    histories = [data.data.history(each.number) for each in (*data.complete, *data.baselines)]
    gains = [history[-1][name] - history[-2][name] for history in histories if len(history) > 1 and name in history[-1]]
    epochs = data.sweep.config.train.epochs
    if not gains or not is_accuracy(name):
        return f"Each network trains for {epochs} epochs; there is no data yet to judge whether that is enough."
    mean = 100 * sum(gains) / len(gains)
    moving = "so they have converged" if abs(mean) < 0.5 else "so more epochs may change the numbers"
    return (
        f"In the last of {epochs} epochs, clean validation accuracy changes by {mean:+.2f} points on average, {moving}."
    )
