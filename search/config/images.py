"""How many images each unit attacks, if the configuration does not say; fixed before the search."""

from __future__ import annotations

from typing import Final

from trainables.settings import Problem

# The noise of robust accuracy on the recorded digits (tests/benchmarks/recorded/mnist5k.csv), in points: between seeds
# per setting, and from 200 images per unit. A sweep prints its own at its end.
INTERACTION: Final = 2.9
IMAGE_NOISE: Final = 1.9
RECORDED_IMAGES: Final = 200
_PASSED: Final = 0.25  # of the passes of images that never fall; most fall early (0.21 in the quickstart)
_FEWEST: Final = 100
_UNKNOWN: Final = 500  # for data whose size only reading them tells


def efficient_images(problem: Problem) -> int:
    """The number of attacked images that gives the most certainty per unit of work; see ``analysis.noise.best_images``.

    The more the training costs, the more images are worth attacking.

    Args:
        problem: Its ``robustness.images`` is not read.

    Returns:
        At least 100, rounded to tens, and at most the images that the search or the confirmation has.
    """
    from analysis.noise import Components, best_images

    data, train, robustness = problem.data, problem.train, problem.robustness
    trained = data.train_size or max((data.dataset.pool or 0) - data.validation_size, 0)
    training = train.epochs * trained * problem.defence.passes
    attacks = (attack.passes * attack.eot * len(robustness.views_of(attack)) for attack in robustness.attacks)
    attack = _PASSED * sum(attacks)
    components = Components(seed=None, interaction=INTERACTION, images_shared=None, images_per_unit=IMAGE_NOISE)
    best = best_images(components, RECORDED_IMAGES, training, attack) if training else None
    seen = min(data.search_size, data.confirmation_size or data.search_size)
    return min(max(round(best, -1), _FEWEST) if best else _UNKNOWN, seen)
