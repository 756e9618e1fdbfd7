"""What an output's threads do: open a stream's writer, hand it a result, close it."""

from __future__ import annotations

import threading
import time

from streamseg.outputs.backlog import Step, StreamBacklog, WaitingResult
from streamseg.outputs.health import StepWatch
from streamseg.types import Meter, Output, Pixels, ResultDroppedError, StreamEnd, StreamInfo


class Steps:
    """Does the steps of one output's streams, each in the calling thread; those of one stream in order."""

    def __init__(self, output: Output, meter: Meter | None) -> None:
        """``meter`` is told how long writing takes, as the stage "publish"."""
        self.watch = StepWatch()
        """What is being done now."""
        self._output, self._meter = output, meter
        self._opening = threading.Lock()

    def do(self, backlog: StreamBacklog, step: Step) -> None:
        """One step of a stream. Raises whatever the output raises."""
        self.watch.begin(backlog.stream)
        try:
            match step:
                case WaitingResult():
                    self._write(backlog, step)
                case StreamInfo():
                    self._open(backlog, step)
                case StreamEnd():
                    writer, backlog.writer = backlog.writer, None  # it is closed once, whatever happens
                    if writer is not None:
                        writer.close(step)
        finally:
            self.watch.end()

    def _open(self, backlog: StreamBacklog, info: StreamInfo) -> None:
        if backlog.writer is not None:
            backlog.writer.begin_epoch(info)
            return
        with self._opening:
            backlog.writer = self._output.open(info)

    def _write(self, backlog: StreamBacklog, waiting: WaitingResult) -> None:
        assert backlog.writer is not None
        began = time.monotonic()
        frame = None if self._output.pixels is Pixels.NEVER else waiting.frame
        try:
            backlog.writer.write(waiting.result, frame, waiting.instances)
        except ResultDroppedError:
            backlog.left_out()
        if self._meter is not None:
            self._meter.stage("publish", time.monotonic() - began)
