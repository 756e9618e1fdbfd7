"""Sources: what to open, and decoding it in processes of its own.

SourcePool -> DecoderHandle -> WorkerProcess =socket=> Worker -> VideoReader -> PyAV
                  |                                      |
            LentPictures <====== shared memory ====== RingWriter
"""

from streamseg.sources.arguments import (
    SourceOptions,
    default_stream_id,
    is_live,
    raise_error,
    resolve_sources,
    source_for,
)
from streamseg.sources.places import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from streamseg.sources.pool import SourcePool
from streamseg.sources.source import Source, place_key
from streamseg.sources.timing import Backoff, Timing

__all__ = [
    "PICTURE_EXTENSIONS",
    "VIDEO_EXTENSIONS",
    "Backoff",
    "Source",
    "SourceOptions",
    "SourcePool",
    "Timing",
    "default_stream_id",
    "is_live",
    "place_key",
    "raise_error",
    "resolve_sources",
    "source_for",
]
