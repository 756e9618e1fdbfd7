"""Where objects have been: the state behind the trails of an overlay."""

from collections import deque
from collections.abc import Mapping, Sequence

from streamseg.types import Frame

Point = tuple[float, float]

SECONDS = 3.0
"""Length of a trail: as far as somebody walks across a street; longer ones become a tangle in crowds."""
_SMOOTHING = 0.35
"""Weight of a new position: the lower edge of a mask jumps with every step of a walking person."""


class Trails:
    """The recent paths of one stream's tracked objects. Begins again with each epoch."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._epoch = -1
        self._paths: dict[int, deque[tuple[float, Point]]] = {}

    def update(
        self, frame: Frame, ids: Sequence[int | None], boxes: Sequence[Sequence[float]]
    ) -> Mapping[int, Sequence[Point]]:
        """Add where the objects of the next frame are.

        Args:
            frame: Tells time and epoch.
            ids: Track ids; none at all without tracking.
            boxes: x1, y1, x2, y2 of each object's main part, in pixels.

        Returns:
            By id of each object in this frame: where the middle of its lower edge was during the last
            seconds, in pixels, oldest first.
        """
        if frame.epoch != self._epoch:
            self._epoch, self._paths = frame.epoch, {}
        here = {
            id_: ((x1 + x2) / 2, y2)
            for id_, (x1, _, x2, y2) in zip(ids, boxes, strict=False)
            if id_ is not None
        }
        for id_, point in here.items():
            self._add(id_, frame.pts, point)
        self._forget(before=frame.pts - self._seconds)
        return {id_: [point for _, point in self._paths[id_]] for id_ in here}

    def _add(self, id_: int, pts: float, point: Point) -> None:
        path = self._paths.setdefault(id_, deque())
        if path:
            last = path[-1][1]
            point = (
                last[0] + _SMOOTHING * (point[0] - last[0]),
                last[1] + _SMOOTHING * (point[1] - last[1]),
            )
        path.append((pts, point))

    def _forget(self, *, before: float) -> None:
        for id_, path in list(self._paths.items()):
            while path and path[0][0] < before:
                path.popleft()
            if not path:
                del self._paths[id_]
