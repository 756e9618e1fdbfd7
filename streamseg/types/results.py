"""The result of one frame, as it is published."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamseg.masks.rle import RunLengths, decode_mask
from streamseg.types.detections import make_detections
from streamseg.types.display import png_of
from streamseg.types.instances import describe_object, list_objects
from streamseg.types.zones import Counts, ZoneEvent

if TYPE_CHECKING:
    from supervision import Detections

RESULT_VERSION = 1


class InstanceResult(msgspec.Struct, frozen=True):
    """One object of a :class:`FrameResult`."""

    id: int | None
    """Stable for one object within stream and epoch; None without tracking."""
    label: str
    class_id: int
    score: float
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in source pixels, tight around the mask, x2 and y2 exclusive."""
    area: int
    """Pixels of the mask."""
    rle: RunLengths = msgspec.field(name="mask")
    zones: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Names of the zones that it is in; absent where the stream has no zones and lines."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The decoded mask, (height, width) bool."""
        return decode_mask(self.rle)

    def __repr__(self) -> str:
        x1, y1, x2, y2 = self.box
        described = describe_object(self.label, self.score, self.id)
        return f"InstanceResult({described}, box ({x1:g}, {y1:g}, {x2:g}, {y2:g}), {self.area} pixels)"


class FrameResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one frame, version 1: an NDJSON line, a Redis field."""

    v: int
    stream: str
    epoch: int
    frame: int
    """Number among the decoded frames of the stream, from 0."""
    pts: float
    """Seconds on the stream's clock."""
    time: float
    """UNIX seconds when the frame was decoded."""
    width: int
    height: int
    latency_ms: float
    """From decoding to publication."""
    model: str
    instances: tuple[InstanceResult, ...]
    """Best score first."""
    counts: Counts | msgspec.UnsetType = msgspec.UNSET
    """Objects in each zone, crossings of each line; absent where the stream has none."""
    events: tuple[ZoneEvent, ...] | msgspec.UnsetType = msgspec.UNSET
    """What happened at zones and lines; absent where nothing did."""
    source: str = ""
    """Absolute path of the file, or URL with passwords masked; results of other programs may lack it."""

    def __repr__(self) -> str:
        listed = list_objects((found.label, found.score, found.id) for found in self.instances)
        where = f"{self.stream}, epoch {self.epoch}, frame {self.frame} at {self.pts:.2f} s"
        return f"FrameResult({where}: {len(self.instances)} in {self.width}x{self.height}{listed})"

    def to_supervision(self) -> "Detections":
        """The objects as ``supervision.Detections``, with full masks and ``data["class_name"]``.

        Raises:
            UsageError: The package supervision is missing (``pip install 'streamseg[supervision]'``).
        """
        found = self.instances
        empty = np.zeros((0, self.height, self.width), np.bool_)
        return make_detections(
            boxes=[instance.box for instance in found],
            masks=np.stack([instance.mask for instance in found]) if found else empty,
            labels=[instance.label for instance in found],
            class_ids=[instance.class_id for instance in found],
            scores=[instance.score for instance in found],
            ids=[instance.id for instance in found],
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the masks on grey, for a result has no picture."""
        return png_of(self)
