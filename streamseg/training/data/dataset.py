"""The endless stream of training samples.

Sample number n depends on the seed and n alone, so a resumed run sees what the uninterrupted one
would have seen, however many devices and workers there are.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from streamseg.training.config import TrainConfig
from streamseg.training.data.augment import (
    Sample,
    change_colour,
    copy_paste,
    fit,
    place_on_canvas,
    resize_whole,
)
from streamseg.training.data.coco import CocoImage
from streamseg.training.data.image_cache import ImageCache


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One augmented image."""

    sample: Sample
    exhaustive: frozenset[int]
    """Class ids of which every object is annotated."""
    name: str
    """The file it is made from."""


class TrainingStream(Dataset[TrainingItem]):
    """Augmented samples by their number in the stream: 0, 1, ... without end."""

    def __init__(self, images: Sequence[CocoImage], config: TrainConfig, cache: ImageCache) -> None:
        """``images`` as :func:`drawn_images` gives them."""
        self._images = images
        self._config = config
        self._cache = cache
        weights = repeat_factors(images).cumsum()
        self._cumulative = weights / weights[-1]
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, number: int) -> TrainingItem:
        rng = np.random.default_rng((self._config.seed, number))
        augment = self._config.augment
        image = self._draw(number, rng)
        sample = self._place(image, rng)
        if rng.random() < augment.copy_paste:
            other = self._place(self._draw(None, rng), rng)
            sample = copy_paste(sample, fit(other, sample.image.shape[:2]), rng)
        if rng.random() < augment.colour:
            sample = replace(sample, image=change_colour(sample.image, rng))
        return TrainingItem(sample, image.exhaustive, str(image.path))

    def _draw(self, number: int | None, rng: np.random.Generator) -> CocoImage:
        """The image of a sample; without a number any of them."""
        if number is not None and self._config.data.sampling == "shuffled":
            epoch, place = divmod(number, len(self._images))
            return self._images[int(self._order(epoch)[place])]
        return self._images[int(self._cumulative.searchsorted(rng.random(), side="right"))]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self._config.seed, epoch, 1)).permutation(len(self._images))

    def _place(self, image: CocoImage, rng: np.random.Generator) -> Sample:
        sample, augment, size = self._load(image), self._config.augment, self._config.model.input
        if size.canvas is not None:
            return place_on_canvas(sample, size.canvas, augment, rng, mean=size.mean)
        short = int(rng.choice(augment.short_sides or (size.short_side,)))
        long = augment.long_side or size.long_side
        return resize_whole(sample, short=short, long=long, flip=rng.random() < augment.flip)

    def _load(self, image: CocoImage) -> Sample:
        masks = [o.mask(image.height, image.width) for o in image.objects]
        also_possible = np.zeros((len(masks), len(self._config.model.classes)), dtype=np.bool_)
        for row, annotated in zip(also_possible, image.objects, strict=True):
            row[list(annotated.also_possible)] = True
        return Sample(
            image=self._cache.read(image),
            masks=np.stack(masks) if masks else np.zeros((0, image.height, image.width), dtype=np.uint8),
            class_ids=np.array([o.class_id for o in image.objects], dtype=np.int64),
            also_possible=also_possible,
            ignored=np.array([o.crowd for o in image.objects], dtype=np.bool_),
        )


def drawn_images(images: Sequence[CocoImage], *, without_objects: bool) -> list[CocoImage]:
    """Those that are drawn: all, or those with an object that is no crowd."""
    return [i for i in images if without_objects or any(not o.crowd for o in i.objects)]


def repeat_factors(images: Sequence[CocoImage], *, threshold: float = 0.2) -> NDArray[np.float64]:
    """How often to draw each image, (len(images),): rare classes more often.

    LVIS paper, section 5.3: max over an image's classes of sqrt(threshold / part of the images with
    that class), at least 1. Images without objects are drawn half as often.
    """
    present = [{o.class_id for o in image.objects if not o.crowd} for image in images]
    counts = Counter(c for classes in present for c in classes)
    factor = {c: max(1.0, math.sqrt(threshold * len(images) / n)) for c, n in counts.items()}
    return np.array([max((factor[c] for c in classes), default=0.5) for classes in present])
