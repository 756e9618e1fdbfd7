"""What encodes an overlay video: x264 on the processor, or an NVIDIA device that has an encoder."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import av

from streamseg.errors import UsageError

logger = logging.getLogger(__name__)

Encode = Literal["auto", "x264", "nvenc"]
Started = TypeVar("Started")

AUTO: Encode = "x264"
"""What "auto" stands for. H100 and H200 have no encoder, other cards take few videos at a time, and no
measurement says how much a card saves or how its pictures look."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An H.264 encoder of FFmpeg and its settings."""

    name: str
    options: Mapping[str, str]


# No B frames: decoding order is display order, so time stamps need no edit list to be exact, in every reader.
_X264 = Encoder(
    "libx264",
    {
        "preset": "veryfast",
        "crf": "21",
        "bf": "0",
        # One step less of the search between pixels: a sixth of the time for 6 % larger files of the same
        # PSNR (measured on the demo clip's overlay; preset superfast: a quarter, 20 %).
        "x264-params": "subme=1",
    },
)
_NVENC = Encoder("h264_nvenc", {"preset": "p4", "rc": "vbr", "cq": "23", "b": "0", "bf": "0"})


_LOW_DELAY: Mapping[str, Encoder] = {
    # Parameter sets before each key frame: a viewer can begin at any of them.
    "libx264": Encoder(
        "libx264", {**_X264.options, "tune": "zerolatency", "x264-params": "subme=1:repeat-headers=1"}
    ),
    "h264_nvenc": Encoder("h264_nvenc", {**_NVENC.options, "tune": "ull", "zerolatency": "1", "delay": "0"}),
}
"""The same for pictures that are watched while they come: each is given out as soon as it is encoded."""


class EncoderChoice:
    """Starts videos with the encoder that the user wants, or with x264 where that one does not open."""

    def __init__(self, wanted: Encode = "auto", *, low_delay: bool = False) -> None:
        """``low_delay``: each picture is wanted at once. Raises UsageError for an unknown encoder."""
        if wanted not in {"auto", "x264", "nvenc"}:
            raise UsageError(f"encode {wanted!r}: allowed are auto, x264, nvenc")
        self._wanted = AUTO if wanted == "auto" else wanted
        self._low_delay = low_delay
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def start(self, with_encoder: Callable[[Encoder], Started]) -> Started:
        """What ``with_encoder`` makes of the first encoder that opens: it is tried for each video anew.

        A card that is busy with others' videos now may have room for the next one. Raises what
        ``with_encoder`` raises for x264.
        """
        if self._wanted == "nvenc":
            try:
                return with_encoder(self._variant(_NVENC))
            except (av.FFmpegError, ValueError) as error:
                self._tell(getattr(error, "strerror", None) or str(error))
        return with_encoder(self._variant(_X264))

    def _variant(self, encoder: Encoder) -> Encoder:
        return _LOW_DELAY[encoder.name] if self._low_delay else encoder

    def _tell(self, reason: str) -> None:
        with self._lock:
            known = reason in self._told
            self._told.add(reason)
        if not known:
            logger.warning("encode: nvenc cannot be used (%s), the CPU encodes", reason)
