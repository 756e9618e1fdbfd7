"""What a notebook shows of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamseg.types.instances import Instances
    from streamseg.types.results import FrameResult


def png_of(found: Instances | FrameResult) -> bytes:
    """Their masks on grey: the picture itself is not kept."""
    # The one import against the direction of data: a notebook asks the object itself for its picture.
    from streamseg.overlay.alone import painted_png  # noqa: PLC0415

    return painted_png(found)
