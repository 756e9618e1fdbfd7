"""Where results go: video, media server, NDJSON, memory, a function; each stream with its own writer."""

from streamseg.outputs.function import FunctionOutput
from streamseg.outputs.memory import MemoryOutput
from streamseg.outputs.ndjson import NdjsonOutput
from streamseg.outputs.push import PushOutput
from streamseg.outputs.runner import OutputRunner
from streamseg.outputs.video import VideoOutput

__all__ = ["FunctionOutput", "MemoryOutput", "NdjsonOutput", "OutputRunner", "PushOutput", "VideoOutput"]
