"""Sources: what to open, and decoding it in processes of its own.

SourceReader -> Lane -> WorkerProcess =socket=> Worker -> VideoReader -> PyAV
                 |                                 |
             RingReader <== shared memory ==  RingWriter
"""

from streamseg.sources.reader import SourceReader
from streamseg.sources.source import (
    VIDEO_EXTENSIONS,
    Source,
    default_stream_id,
    is_live,
    resolve_sources,
    source_for,
)
from streamseg.sources.timing import Retry, Timing

__all__ = [
    "VIDEO_EXTENSIONS",
    "Retry",
    "Source",
    "SourceReader",
    "Timing",
    "default_stream_id",
    "is_live",
    "resolve_sources",
    "source_for",
]
