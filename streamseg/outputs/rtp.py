"""Pictures as RTP packets of H.264 (RFC 6184), and the SDP that describes them."""

from __future__ import annotations

import base64

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from streamseg.errors import OutputError
from streamseg.outputs.encoder import Encoder, EncoderChoice
from streamseg.outputs.h264 import PictureFormat, PictureTrack

TIMESCALE = 90_000
"""Ticks a second: RTP's for video."""
_PACKET = 1400
"""Bytes: fits into the packets of every network, should the server hand them on as they are."""
_SPS, _PPS = 7, 8


class RtpPackets:
    """Encodes pictures of one size, with low delay: each is in the packets that it returns."""

    def __init__(self, format_: PictureFormat, encoders: EncoderChoice) -> None:
        """Open the encoder. Raises OutputError."""
        self._file = _Packets()
        try:
            self._container, self._video = encoders.start(lambda encoder: self._open(encoder, format_))
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(
                f"cannot encode {format_.size[0]}x{format_.size[1]} pictures: {error}"
            ) from error

    @property
    def description(self) -> str:
        """SDP (RFC 8866) for these packets."""
        return describe(self._video.parameter_sets)

    def of(self, pixels: NDArray[np.uint8], pts: int) -> list[bytes]:
        """Those of a picture, (height, width, 3) uint8 RGB, contiguous, and reports of RTCP among them.

        ``pts`` is in ticks of 1/90000 s. Raises OutputError.
        """
        try:
            for packet in self._video.encode(pixels, pts):
                self._container.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot encode: {error}") from error
        return self._file.take()

    def close(self) -> None:
        """Let go of the encoder."""
        self._container.close()

    def _open(self, encoder: Encoder, format_: PictureFormat) -> tuple[OutputContainer, PictureTrack]:
        container = av.open(self._file, "w", format="rtp", options={"packetsize": str(_PACKET)})
        try:
            return container, PictureTrack(container, encoder, format_, parameter_sets=True)
        except (av.FFmpegError, ValueError):
            container.close()
            raise


class _Packets:
    """A file that FFmpeg writes one packet at a time to."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep one packet."""
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> list[bytes]:
        """The packets since the last time."""
        written, self._written = self._written, []
        return written


def describe(parameter_sets: bytes) -> str:
    """SDP for H.264 with these parameter sets (Annex B)."""
    units = [unit.rstrip(b"\0") for unit in parameter_sets.split(b"\0\0\1") if unit]
    sets = [unit for unit in units if unit and unit[0] & 0x1F in {_SPS, _PPS}]
    parameters = "packetization-mode=1"
    if sets:
        encoded = ",".join(base64.b64encode(one).decode() for one in sets)
        parameters += f"; sprop-parameter-sets={encoded}; profile-level-id={sets[0][1:4].hex().upper()}"
    lines = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=streamseg",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "m=video 0 RTP/AVP 96",
        f"a=rtpmap:96 H264/{TIMESCALE}",
        f"a=fmtp:96 {parameters}",
        "a=control:streamid=0",
    ]
    return "".join(f"{line}\r\n" for line in lines)
