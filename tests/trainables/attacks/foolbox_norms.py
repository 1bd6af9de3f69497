"""Minimum-norm attacks beside foolbox's on one trained network."""

from __future__ import annotations

import copy
from typing import Any

import foolbox
import torch

from tests.trainables.reference_models import reference_model
from trainables.attacks import MinimumNormAttack


def assert_norms_at_most_foolboxs(ours: MinimumNormAttack, theirs: Any) -> None:
    """Our median norm on 200 digits is at most 1 % larger, and every image is fooled.

    Args:
        ours: Our attack, on the raw logits.
        theirs: An attack of foolbox with the same settings.
    """
    trained_model, validation = reference_model("mnist5k", "sce")
    model = copy.deepcopy(trained_model).requires_grad_(False)
    images, labels = validation.images[:200].contiguous(), validation.labels[:200]
    found = ours(model, images, labels, radius=1.0).distance

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    adversarial = theirs.run(wrapped, images, foolbox.criteria.Misclassification(labels))
    with torch.no_grad():
        fooled = model(adversarial).argmax(1) != labels
    norms = torch.where(fooled, (adversarial - images).flatten(1).norm(dim=1), torch.inf)

    correct = found > 0
    print(f"\nmedian norm {found[correct].median():.4f} and foolbox's {norms[correct].median():.4f}, n {correct.sum()}")
    assert correct.sum() > 150
    assert found.isfinite().all()
    assert found[correct].median() <= 1.01 * norms[correct].median()
