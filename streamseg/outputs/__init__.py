"""Where results go: overlay video, NDJSON, memory, a function; each stream with a writer of its own."""

from streamseg.outputs.function import FunctionOutput
from streamseg.outputs.memory import MemoryOutput
from streamseg.outputs.ndjson import NdjsonOutput
from streamseg.outputs.runner import OutputRunner
from streamseg.outputs.video import VideoOutput

__all__ = ["FunctionOutput", "MemoryOutput", "NdjsonOutput", "OutputRunner", "VideoOutput"]
