"""Which objects a training ever learns from, and why not the others."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streamseg.models.input_size import fitted
from streamseg.models.spec import LevelSpec
from streamseg.training.config import TrainConfig

CROWD = "marked iscrowd"
EMPTY = "without a pixel in the mask"
SMALL = "too small on the canvas at any scale for data.min_size and the levels of the head"
OTHER = "of a size on the canvas that no level of the head takes"


class Sizes:
    """The sizes on the canvas that a training learns objects of."""

    def __init__(self, config: TrainConfig) -> None:
        self._input, self._augment = config.model.input, config.augment
        self._least = config.data.min_size
        self._levels: Sequence[LevelSpec] = config.model.head.levels

    def why_never(self, side: float, height: int, width: int) -> str | None:
        """Why an object of an image of ``height`` x ``width`` is never taught.

        ``side`` is sqrt(box area) in image pixels. On the canvas it is between two values, which the scales
        of ``augment`` decide; levels take it in their ranges.
        """
        low, high = (side * scale for scale in self._scales(height, width))
        if self._input.canvas is not None:
            low, high = (min(value, math.sqrt(math.prod(self._input.canvas))) for value in (low, high))
        low = max(low, self._least)
        if low > high or high < min(level.scale[0] for level in self._levels):
            return SMALL
        if any(low <= level.scale[1] and high >= level.scale[0] for level in self._levels):
            return None
        return OTHER

    def _scales(self, height: int, width: int) -> tuple[float, float]:
        """Canvas pixels per image pixel, at the least and at the most."""
        if self._input.canvas is not None:
            ratios = (self._input.canvas[0] / height, self._input.canvas[1] / width)
            return self._augment.scale[0] * min(ratios), self._augment.scale[1] * max(ratios)
        long = self._augment.long_side or self._input.long_side
        sizes = [
            fitted(height, width, long_side=long, short_side=short)
            for short in self._augment.short_sides or (self._input.short_side,)
        ]
        scales = [math.sqrt(h * w / (height * width)) for h, w in sizes]
        return min(scales), max(scales)


@dataclass(slots=True)
class Tally:
    """Objects by class, and those among them that are never taught (or never scored) by the reason."""

    objects: Counter[str] = field(default_factory=Counter)
    never: Mapping[str, Counter[str]] = field(
        default_factory=lambda: {reason: Counter() for reason in (CROWD, EMPTY, SMALL, OTHER)}
    )

    def add(self, name: str, reason: str | None) -> None:
        """Count an object of the class ``name``."""
        self.objects[name] += 1
        if reason is not None:
            self.never[reason][name] += 1

    def left(self, name: str) -> int:
        """Objects of a class that are taught."""
        return self.objects[name] - sum(counts[name] for counts in self.never.values())

    def reasons(self, name: str) -> str:
        """Why objects of a class are not taught: ``5 marked iscrowd, 3 without a pixel in the mask``."""
        found = ((counts[name], reason) for reason, counts in self.never.items())
        return ", ".join(f"{count} {reason}" for count, reason in found if count)

    def notes(self, verb: str, *, teach_crowds: str) -> Iterator[str]:
        """A sentence for each reason; ``verb`` says what such objects never are: ``taught``.

        ``teach_crowds`` is how to change that for crowds.
        """
        for reason, counts in self.never.items():
            if counts:
                names = ", ".join(f"{name} {count}" for name, count in counts.most_common())
                hint = f"; {teach_crowds} takes them as others" if reason == CROWD else ""
                part = f"{counts.total()} of {self.objects.total()} objects"
                yield f"{part} are never {verb}: {reason} ({names}{hint})"
