"""Running a detector: preprocessing, precision, CUDA streams, masks at source resolution."""

from streamseg.inference.oom import BatchHalver
from streamseg.inference.segmenter import Segmenter

__all__ = ["BatchHalver", "Segmenter"]
