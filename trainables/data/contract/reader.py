"""What reads the images of a data set that is there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from trainables.data.contract.images import Indices, LabelledImages

# What a data set may come in. The images of a missing part are split off ``train``.
Part = Literal["train", "validation", "test"]
Choose = Callable[[Indices], Indices]


class Reader(ABC):
    """Reads the parts of one data set.

    Args:
        location: Where it is, for people.
        parts: What it comes in: ``train``, and perhaps ``validation`` and ``test``.
        cache_key: A file name's beginning that stands for the data set's contents, if images read from it are worth
            keeping in the cache.
    """

    uniform: ClassVar[bool] = True  # whether all images have one shape, whatever is selected

    def __init__(self, location: str, parts: tuple[Part, ...], cache_key: str | None = None) -> None:
        if "train" not in parts:
            raise ValueError(f"data must have a part named train, got {', '.join(parts) or 'none'}")
        self.location, self.parts, self.cache_key = location, parts, cache_key

    @abstractmethod
    def read(self, part: Part) -> LabelledImages:
        """All images of a part, in the data set's own order."""

    def select(self, part: Part, choose: Choose, size: int | None) -> LabelledImages:
        """Some images of a part.

        Args:
            part: Which part.
            choose: Takes the labels of the part's images and returns the indices of the images to return, in order.
            size: As ``data.size``.
        """
        images = self.read(part)
        return images[choose(images.labels)].resized(size)
