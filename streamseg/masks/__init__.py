"""Masks at the edge: run-length encoding, frame results, overlay painting.

Painting needs OpenCV, so :mod:`streamseg.masks.paint` is not imported here: subscribers go without.
"""

from streamseg.masks.result import frame_result
from streamseg.masks.rle import decode_mask, encode_crop

__all__ = ["decode_mask", "encode_crop", "frame_result"]
