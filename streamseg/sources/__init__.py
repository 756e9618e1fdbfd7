"""Sources: what to open, and decoding it in processes of its own.

SourcePool -> DecoderHandle -> WorkerProcess =socket=> Worker -> VideoReader -> PyAV
                  |                                      |
              RingReader <====== shared memory ====== RingWriter
"""

from streamseg.sources.connection import Backoff, Timing
from streamseg.sources.pool import SourcePool
from streamseg.sources.source import (
    VIDEO_EXTENSIONS,
    Source,
    SourceOptions,
    default_stream_id,
    is_live,
    resolve_sources,
    source_for,
)

__all__ = [
    "VIDEO_EXTENSIONS",
    "Backoff",
    "Source",
    "SourceOptions",
    "SourcePool",
    "Timing",
    "default_stream_id",
    "is_live",
    "resolve_sources",
    "source_for",
]
