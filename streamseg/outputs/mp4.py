"""One H.264 mp4 file that keeps the source's size and time stamps to the tick."""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from streamseg.errors import OutputError
from streamseg.outputs.audio import AudioReader
from streamseg.outputs.encoder import Encoder, EncoderChoice
from streamseg.outputs.files import write_failure
from streamseg.outputs.h264 import PictureFormat, PictureTrack
from streamseg.outputs.tracks import Sound

_MAX_TIMESCALE = 2**31 - 1


class Mp4File:
    """Encodes pictures of one size into ``path``.

    While it grows the file is a fragmented mp4 that loses at most the last two seconds if the
    process is killed; :meth:`finish` turns it into a plain one with a single index.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        fps: float | None,
        audio: AudioReader | None,
        encoders: EncoderChoice,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Open the file. Raises OutputError.

        Args:
            path: Where to.
            size: Width and height.
            time_base: Seconds per tick of the source.
            fps: Nominal pictures a second, None when unknown.
            audio: The sound that goes with it.
            pixel_aspect: Width of a pixel as it is shown, divided by its height.
        """
        self.path, self.size = path, size
        self.timescale = _timescale(time_base)
        self._format = PictureFormat(size, self.timescale, fps=fps, pixel_aspect=pixel_aspect)
        try:
            self._container, self._video = encoders.start(self._open)
            self._audio = audio
            if audio is not None:
                audio.attach(self._container)
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from error

    @property
    def frames(self) -> int:
        """Pictures written."""
        return self._video.frames

    @property
    def last_pts(self) -> int:
        """Time stamp of the last picture in ticks of 1 / :attr:`timescale` seconds; -1 before it."""
        return self._video.last_pts

    @property
    def tick_per_frame(self) -> int:
        """Nominal duration of a picture in ticks."""
        return self._format.tick_per_frame

    def write(self, pixels: NDArray[np.uint8], pts: int) -> None:
        """Add a picture, (height, width, 3) uint8 RGB, contiguous; ``pts`` in ticks. Raises OutputError.

        A time stamp that does not lie after the last one is moved to the next tick: mp4 has no two
        pictures at one time.
        """
        try:
            for packet in self._video.encode(pixels, pts):
                self._container.mux(packet)
            self._mux_sound(Fraction(self.last_pts, self.timescale))
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def finish(self, *, whole_audio: bool) -> None:
        """Write what the encoder holds and the index. Raises OutputError.

        Args:
            whole_audio: Copy the audio to its end, else to the last picture.
        """
        try:
            for packet in self._video.finish():
                self._container.mux(packet)
            if whole_audio:
                self._mux_sound(None)
            if self._audio is not None:
                self._mux_packets(self._audio.rest())
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        if self._audio is not None:
            self._audio.close()
        with suppress(av.FFmpegError, OSError):  # after an error there may be no room for the index
            self._container.close()
        _trim_heap()

    def _open(self, encoder: Encoder) -> tuple[OutputContainer, PictureTrack]:
        """The file with its video, whose encoder is open."""
        container = self._open_container(self.path)
        try:
            return container, PictureTrack(container, encoder, self._format)
        except (av.FFmpegError, ValueError):
            container.close()
            raise

    def _mux_sound(self, until: Fraction | None) -> None:
        if self._audio is not None:
            self._mux_packets(self._audio.until(until))

    def _mux_packets(self, packets: Iterator[Sound]) -> None:
        """Add sound. What the file does not take ends the sound; a disk that is full ends the video."""
        assert self._audio is not None
        for packet in packets:
            try:
                self._container.mux(packet)
            except (av.error.ArgumentError, av.error.InvalidDataError) as error:
                self._audio.give_up(error)
                return

    def _open_container(self, path: Path) -> OutputContainer:
        return av.open(
            str(path),
            "w",
            format="mp4",
            options={
                "movflags": "hybrid_fragmented+delay_moov",
                # Without delay_moov the first fragment of a killed file is unreadable and a first
                # time stamp other than 0 is lost.
                "frag_duration": "1000000",  # microseconds
                "flush_packets": "1",  # a finished fragment goes to the file at once
                "use_editlist": "1",
                "video_track_timescale": str(self.timescale),
                # The gap before a first picture later than 0 is stored in these units.
                "movie_timescale": str(self.timescale),
                "avoid_negative_ts": "disabled",
            },
        )

    def _failure(self, error: Exception) -> OutputError:
        return write_failure(self.path, error)


def _trim_heap() -> None:
    """Give freed memory back to the system.

    Encoders allocate in the heaps of several threads and leave holes behind when they are closed: 20
    MiB more after 70 short files. Trimmed (7-20 ms) the process stays as large as it was.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's; others need no telling
        trim(0)


def _timescale(time_base: Fraction) -> int:
    """Ticks per second in which every multiple of ``time_base`` is whole, as mp4 needs it."""
    scale = time_base.denominator
    while scale < 10_000:  # players expect milliseconds and finer
        scale *= 2
    return min(scale, _MAX_TIMESCALE)
