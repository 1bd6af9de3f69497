from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

from trainables.data.splits import MOST_SHIFT, Split, load_splits, shift_and_flip
from trainables.settings import DataSettings, Problem
from trainables.training.replicate import make_replicates


def test_a_class_of_the_data_set_without_training_images_has_its_logit(problem: Problem) -> None:
    images = torch.rand(6, 1, 28, 28)
    splits = {"train": Split(images, torch.arange(6) % 3, classes=5)}
    for replicate in make_replicates(problem, splits):
        assert replicate.model(images).shape == (6, 5)


def test_every_image_is_a_shift_or_a_mirrored_shift_of_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 2, 6, 7, generator=generator)
    result = shift_and_flip(images, generator)
    assert result.shape == images.shape

    window = 2 * MOST_SHIFT + 1
    padded = F.pad(images, (MOST_SHIFT,) * 4)
    seen = set()
    for row, column, flip in itertools.product(range(window), range(window), (False, True)):
        candidate = padded[:, :, row : row + 6, column : column + 7]
        candidate = candidate.flip(-1) if flip else candidate
        for index in (candidate == result).flatten(1).all(1).nonzero().flatten().tolist():
            seen.add((index, row, column, flip))
    assert {index for index, *_ in seen} == set(range(60))
    for axis, values in ((1, window), (2, window), (3, 2)):
        assert len({entry[axis] for entry in seen}) == values


def test_the_generator_alone_decides() -> None:
    images = torch.rand(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    before = torch.get_rng_state()
    first, second, third = (shift_and_flip(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(before, torch.get_rng_state())
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_the_last_validation_images_are_kept_for_the_confirmation() -> None:
    whole = load_splits(DataSettings(validation_size=100, test_size=500))
    parts = load_splits(DataSettings(validation_size=100, test_size=500, confirmation_size=40))
    assert {name: (part.name, len(part)) for name, part in parts.items() if name != "train"} == {
        "validation": ("validation", 60),
        "confirmation": ("confirmation", 40),
    }
    assert torch.equal(
        torch.cat([parts["validation"].images, parts["confirmation"].images]), whole["validation"].images
    )
    assert torch.equal(parts["train"].images, whole["train"].images)
