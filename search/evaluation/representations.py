"""The normalised logits and the features of trained networks for clean images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.condition import GRID_M, GRID_S, holds_everywhere
from search.results.audits import load_model
from search.results.leaderboard import Contestant
from search.results.reproduction import Measures
from search.runs.layout import CHECKPOINTS

if TYPE_CHECKING:
    import torch

    from trainables.training.replicate import Replicate

POINTS: Final = 500  # images drawn per network
_BATCH: Final = 500

Array = npt.NDArray[np.float64]


def condition_measures(contestant: Contestant, numbers: Sequence[str]) -> Measures:
    """The condition of section 3.3.2 on the validation images of networks; each measure has shape (seeds, images).

    ``f_true`` is the normalised logit of the true class, ``others`` the sum of e^f over the other classes, and
    ``condition`` is whether z(s, m) > 0 for all s and m of a grid.
    """
    terms = []
    for number in numbers:
        _, logits, labels = _outputs(contestant, number)
        normalized = logits / np.sqrt((logits**2).sum(axis=1, keepdims=True) + 1e-12)
        exponentials = np.exp(normalized)
        rows = np.arange(len(labels))
        terms.append((normalized[rows, labels], exponentials.sum(axis=1) - exponentials[rows, labels]))
    f_true, others = map(np.stack, zip(*terms, strict=True))
    condition = holds_everywhere(f_true, others, GRID_S, GRID_M)
    return {"f_true": f_true, "others": others, "condition": condition}


def embedding_measures(contestant: Contestant, numbers: Sequence[str]) -> Measures:
    """The silhouette of the classes in each network's features, and in their directions; each of shape (seeds,).

    ``silhouette`` compares the features themselves. ``angular_silhouette`` compares them at unit length, because a
    normalised loss does not see their length.
    """
    values, directions = [], []
    for number in numbers:
        features, _, labels = _outputs(contestant, number)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        values.append(silhouette(features, labels))
        directions.append(silhouette(features / np.maximum(lengths, 1e-12), labels))
    return {"silhouette": np.array(values), "angular_silhouette": np.array(directions)}


def embedded_points(contestant: Contestant, number: str) -> pd.DataFrame:
    """The features of one network's first validation images: ``label``, ``x``, ``y``, ``z``."""
    features, _, labels = _outputs(contestant, number)
    table = pd.DataFrame(features[:POINTS].round(3), columns=["x", "y", "z"])
    table.insert(0, "label", labels[:POINTS])
    return table


def silhouette(points: Array, labels: npt.NDArray[np.int64]) -> float:
    """The mean silhouette of points (n, d) with labels (n,), in [-1, 1]. It does not depend on the scale.

    Source:
        Rousseeuw 1987, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis".
    """
    from scipy.spatial.distance import cdist

    distance, classes = cdist(points, points), np.unique(labels)
    member = labels[:, np.newaxis] == classes
    counts = member.sum(axis=0)
    sums = distance @ member
    own = (sums * member).sum(axis=1) / np.maximum(counts[np.argmax(member, axis=1)] - 1, 1)
    nearest = np.where(member, np.inf, sums / counts).min(axis=1)
    larger = np.maximum(own, nearest)
    return float(np.divide(nearest - own, larger, out=np.zeros_like(own), where=larger > 0).mean())


def _outputs(contestant: Contestant, number: str) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """For the validation images: features (n, d), the logits used for decisions (n, k), and labels (n,)."""
    import torch

    run = contestant.run
    splits, (replicate,) = load_model(run.fetched(f"{CHECKPOINTS}/{number}"), run.config)
    validation = splits["validation"]
    replicate.model.eval()
    outputs = partial(_forward, replicate, validation.classes)
    with torch.no_grad():
        parts = [outputs(images) for images in validation.images.split(_BATCH)]
    features, logits = (torch.cat(each).double().cpu().numpy() for each in zip(*parts, strict=True))
    return features, logits, validation.labels.cpu().numpy()


def _forward(replicate: Replicate, classes: int, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from trainables.models.layers.features import features_of

    features, logits = features_of(replicate.model, classes).pass_through(images)
    return features, replicate.objective.decisive(features, logits)
