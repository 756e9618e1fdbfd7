"""The overlay of each stream, pushed to a media server over RTSP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from streamseg.config import OverlayOptions
from streamseg.errors import OutputError, OutputGoneError, UsageError, mask_password
from streamseg.outputs.encoder import Encode, EncoderChoice
from streamseg.outputs.h264 import PictureFormat
from streamseg.outputs.pace import Pace
from streamseg.outputs.patience import Patience, PeerAwayError
from streamseg.outputs.rtp import TIMESCALE, RtpPackets
from streamseg.outputs.rtsp import STUCK_SECONDS, RecordingSession, RtspError, parse_rtsp
from streamseg.outputs.timeline import Timeline
from streamseg.overlay.paint import Painter
from streamseg.types import (
    Frame,
    FramePolicy,
    FrameResult,
    Instances,
    Output,
    Pixels,
    ResultDroppedError,
    StreamEnd,
    StreamInfo,
    StreamWriter,
)
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

END_SECONDS = 10.0
"""For a server that is away, once the run is over."""
SEND_SECONDS = 0.25
"""For a live picture to leave this machine; what is not sent by then follows before the next one that is."""
STALE_SECONDS = 1.0
"""A live picture that has waited for the server longer than that is not sent: newer ones are there."""
_PLACE = "{stream}"


class PushOutput(Output):
    """Pushes an H.264 stream each, over TCP, to a server that takes RTSP's ANNOUNCE and RECORD.

    A server that is away is waited for, by each stream on its own. Live pictures that it does not take in
    time are dropped and counted. A recording goes at the pace of its own clock, and waits.
    """

    pixels = Pixels.ALWAYS
    writers_at_once = 1000  # as many as there are streams: each may wait for its server

    def __init__(
        self,
        url_template: str,
        *,
        overlay: OverlayOptions | None = None,
        rules: Mapping[str, StreamRules] | None = None,
        encode: Encode = "auto",
    ) -> None:
        """Set up; nothing is connected yet.

        Args:
            url_template: ``rtsp://`` or ``rtsps://``, with ``{stream}`` where the stream's id belongs.
            overlay: What is painted.
            rules: Those of streams by id, whose zones and lines are painted.
            encode: Who encodes: ``auto``, ``x264`` or ``nvenc``, which falls back to x264.

        Raises UsageError for an unknown encoder, or if the URL is none.
        """
        self._template, self._overlay, self._rules = url_template, overlay, rules
        self._encoders = EncoderChoice(encode, low_delay=True)
        self._patiences: dict[str, Patience] = {}
        self._over = False
        self._end_seconds: float | None = None
        """To wait for a server once the run is over; None: as long as each stream's patience lasts."""
        self._lock = threading.Lock()
        parse_rtsp(self.url("x"))

    def url(self, stream: str) -> str:
        """Where a stream goes, password included."""
        return self._template.replace(_PLACE, quote(stream, safe=""))

    def check(self, streams: Sequence[str]) -> None:
        """Make sure that each stream has a place of its own to go to. Raises UsageError."""
        for stream in streams:
            parse_rtsp(self.url(stream))
        if len(streams) > 1 and _PLACE not in self._template:
            shown = mask_password(self._template)
            raise UsageError(f"{shown}: several streams need a URL with {_PLACE} in it")

    def open(self, info: StreamInfo) -> PushWriter:
        """A writer that connects with its first picture."""
        url = self.url(info.stream)
        patience = Patience(f"media server {mask_password(url)}", END_SECONDS)
        with self._lock:
            self._patiences[info.stream] = patience
            if self._over:
                patience.hurry(self._end_seconds)
        return PushWriter(
            url, info, painter=Painter(self._overlay, self._rules), encoders=self._encoders, patience=patience
        )

    @property
    def trouble(self) -> str | None:
        """Which server takes nothing now."""
        with self._lock:
            patiences = list(self._patiences.values())
        return next((patience.trouble for patience in patiences if patience.trouble), None)

    def hurry(self, patience: float | None = None) -> None:
        """Wait no longer than that for any server."""
        with self._lock:
            self._over, self._end_seconds = True, patience
            patiences = list(self._patiences.values())
        for one in patiences:
            one.hurry(patience)


@dataclass(frozen=True, slots=True)
class _Connection:
    """From the encoder to the server, for pictures of one size."""

    size: tuple[int, int]
    packets: RtpPackets
    session: RecordingSession
    timeline: Timeline

    def abandon(self) -> None:
        self.session.abandon()
        self.packets.close()


class PushWriter(StreamWriter):
    """One stream: connected again whenever its server is lost, or its pictures have another size."""

    def __init__(
        self, url: str, info: StreamInfo, *, painter: Painter, encoders: EncoderChoice, patience: Patience
    ) -> None:
        """Set up; nothing is connected before the first picture."""
        self._address, self._shown, self._info = parse_rtsp(url), mask_password(url), info
        self._painter, self._encoders, self._patience = painter, encoders, patience
        self._pace = Pace()
        self._connection: _Connection | None = None

    @property
    def _live(self) -> bool:
        return self._info.policy is FramePolicy.NEWEST_FRAME

    def begin_epoch(self, info: StreamInfo) -> None:
        """Go on with the camera's new connection."""
        self._info = info

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Paint, encode and send one picture.

        Raises ResultDroppedError for a live one that the server has no room for, OutputError if the server
        is away for too long at the end of the run.
        """
        assert frame is not None
        assert instances is not None
        if not self._live:
            self._patience.wait(self._pace.seconds_until(frame.pts))
        push = partial(self._push, result, frame, instances, since=time.monotonic())
        try:
            sent = self._patience.retry(push)
        except OutputGoneError as error:  # only of this stream: another one's path may be taken
            raise OutputError(str(error)) from None
        if not sent:
            raise ResultDroppedError

    def close(self, end: StreamEnd) -> None:  # noqa: ARG002
        """Disconnect."""
        self._patience.trouble = None
        if self._connection is not None:
            self._connection.session.close()
        self._drop()

    def _push(self, result: FrameResult, frame: Frame, instances: Instances, *, since: float) -> bool:
        """Whether the picture was sent. Raises PeerAwayError."""
        try:
            connection = self._connected(frame)
            stale = time.monotonic() - since > STALE_SECONDS
            if self._live and (stale or not connection.session.ready()):
                return False
            pixels = self._painter.paint(frame, instances, result.counts)
            packets = connection.packets.of(pixels, connection.timeline.pts(frame))
            seconds = SEND_SECONDS if self._live else 2 * STUCK_SECONDS
            connection.session.send(packets, seconds=seconds)
        except RtspError as error:
            self._drop()
            raise PeerAwayError(str(error)) from None
        return True

    def _connected(self, frame: Frame) -> _Connection:
        """The connection that takes this picture. Raises RtspError or OutputError."""
        size = (frame.width, frame.height)
        if self._connection is not None and self._connection.size == size:
            return self._connection
        if self._connection is not None:
            self._connection.session.close()
        self._drop()
        format_ = PictureFormat(size, TIMESCALE, fps=self._info.fps, pixel_aspect=frame.pixel_aspect)
        packets = RtpPackets(format_, self._encoders)
        try:
            session = RecordingSession(self._address, packets.description)
        except BaseException:
            packets.close()
            raise
        timeline = Timeline(TIMESCALE, tick_per_frame=format_.tick_per_frame)
        self._connection = _Connection(size, packets, session, timeline)
        logger.info("stream %s: pushed to %s", frame.stream, self._shown)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
