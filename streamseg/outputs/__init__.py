"""Where results go: overlay video, NDJSON, memory; each behind a queue of its own."""

from streamseg.outputs.memory import MemoryOutput
from streamseg.outputs.ndjson import NdjsonOutput
from streamseg.outputs.queue import OutputQueue
from streamseg.outputs.video import VideoOutput

__all__ = ["MemoryOutput", "NdjsonOutput", "OutputQueue", "VideoOutput"]
