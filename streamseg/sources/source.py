"""What to open: the arguments a user gives, turned into sources with an id each."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

from streamseg.errors import UsageError, mask_password
from streamseg.types import FramePolicy

VIDEO_EXTENSIONS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".h264", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""File name endings (any case) by which videos are picked out of a folder or a glob."""

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt"})
WEB_SCHEMES = frozenset({"http", "https"})
LIVE_WEB_ENDINGS = (".m3u8", ".mjpg", ".mjpeg")

OPEN_TIMEOUT = 5.0
"""Seconds until an opening counts as failed: analysing a camera behind a slow link takes 2 to 3."""
READ_TIMEOUT = 5.0
"""Seconds of silence after which a stream counts as stalled: five frames of a 1 fps camera."""
PLAYLIST_READ_TIMEOUT = 30.0
"""The same for HLS, which delivers whole segments of up to 10 s."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """One video stream to read. Raises UsageError when a value is out of range."""

    id: str
    """``[A-Za-z0-9_.-]{1,64}``."""
    url: str
    """Path or URL, credentials included: show :attr:`shown` instead."""
    live: bool
    """A camera or another stream without an end; otherwise a recording that is read in full."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries the video; other protocols ignore it."""
    start: float = 0.0
    """Recordings: seconds from the beginning where the selected part starts."""
    end: float | None = None
    """Recordings: seconds from the beginning where it ends (exclusive), None for the end of the file."""
    stride: int = 1
    """Recordings: take every ``stride``-th frame of the selected part."""
    open_timeout: float = OPEN_TIMEOUT
    """Seconds until an attempt to open is given up (URLs only)."""
    read_timeout: float = READ_TIMEOUT
    """Seconds without a frame until a live source counts as stalled, without data until a recording on
    the web counts as broken off."""
    deinterlace: Literal["auto", "off"] = "auto"
    """Whether interlaced pictures are made whole; ``auto``: those that say that they are interlaced."""
    reconnect_attempts: int | None = None
    """Live sources: new attempts in a row that may fail before it is given up; None for any number."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise UsageError(f"stream id {self.id!r}: allowed are 1 to 64 of A-Z a-z 0-9 _ . -")
        if self.transport not in {"tcp", "udp"}:
            raise UsageError(f"stream {self.id}: transport {self.transport!r}: allowed are tcp, udp")
        if not 0 <= self.start < math.inf:
            raise UsageError(f"start {self.start}: must be 0 seconds or more")
        if self.end is not None and not self.start < self.end < math.inf:
            raise UsageError(f"end {self.end}: must be more seconds than start, {self.start}")
        if self.stride < 1:
            raise UsageError(f"stride {self.stride}: must be 1 or more")
        if not 0 < min(self.open_timeout, self.read_timeout) < math.inf:
            raise UsageError(f"stream {self.id}: time-outs must be more than 0 seconds")
        if self.reconnect_attempts is not None and self.reconnect_attempts < 0:
            raise UsageError(f"stream {self.id}: reconnect_attempts must be 0 or more")

    @property
    def shown(self) -> str:
        """The URL for people: passwords and tokens are replaced by ``***``."""
        return mask_password(self.url) if _SCHEME.match(self.url) else self.url

    @property
    def policy(self) -> FramePolicy:
        """What happens to frames that come faster than they are processed."""
        return FramePolicy.NEWEST_FRAME if self.live else FramePolicy.EVERY_FRAME

    def __repr__(self) -> str:
        return f"Source(id={self.id!r}, url={self.shown!r}, live={self.live})"


class SourceOptions(TypedDict, total=False):
    """What a user may say of a source beside its place and time-out: fields of :class:`Source`."""

    transport: Literal["tcp", "udp"]
    start: float
    end: float | None
    stride: int
    deinterlace: Literal["auto", "off"]
    reconnect_attempts: int | None


def is_live(url: str) -> bool:
    """Whether a path or URL is read as a live source. Raises UsageError for an unknown scheme."""
    scheme = _scheme(url)
    if scheme is None or scheme == "file":
        return _DEVICE.fullmatch(url) is not None
    if scheme in WEB_SCHEMES:
        return _public_words(url).lower().endswith(LIVE_WEB_ENDINGS)
    if scheme in LIVE_SCHEMES:
        return True
    allowed = ", ".join(sorted(LIVE_SCHEMES | WEB_SCHEMES))
    raise UsageError(
        f"{mask_password(url)}: scheme {scheme!r} is not supported; allowed are {allowed} and files"
    )


def default_stream_id(url: str, taken: Collection[str] = ()) -> str:
    """Make an id from a file's stem or a URL's host and path, with ``-2``, ``-3``, … if it is taken."""
    words = Path(url).stem if _scheme(url) in {None, "file"} else _public_words(url)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", words).strip("-.")[:64] or "stream"
    stream_id, number = stem, 1
    while stream_id in taken:
        number += 1
        stream_id = f"{stem[: 63 - len(str(number))]}-{number}"
    return stream_id


def _public_words(url: str) -> str:
    """Host and path of a URL, with nothing of what stands before the host, and secrets masked."""
    place = mask_password(url).partition("://")[2].rpartition("@")[2]
    host, _, path = place.partition("/")
    return f"{host.partition(':')[0]}/{unquote(path.partition('?')[0])}"


def source_for(
    url: str,
    *,
    stream_id: str | None = None,
    taken: Collection[str] = (),
    stalled_after: float | None = None,
    **options: Unpack[SourceOptions],
) -> Source:
    """Describe one path or URL; nothing is opened.

    ``stalled_after`` is :attr:`Source.read_timeout` in seconds, None for the protocol's usual one.
    Raises UsageError for an unsupported scheme and for values out of range.
    """
    _check_text(url)
    live = is_live(url)
    segments = live and _public_words(url).lower().endswith(".m3u8")
    return Source(
        id=stream_id or default_stream_id(url, taken),
        url=_local_path(url) if _scheme(url) in {None, "file"} else url,
        live=live,
        read_timeout=stalled_after or (PLAYLIST_READ_TIMEOUT if segments else READ_TIMEOUT),
        **options,
    )


def _check_text(url: str) -> None:
    """Refuse what neither FFmpeg nor our masking of passwords could cope with. Raises UsageError."""
    if "\0" in url or url != url.encode(errors="replace").decode():
        raise UsageError(f"{url!a}: the name is not valid UTF-8; give the file another one")
    if _scheme(url) not in {None, "file"} and re.search(r"[\s\x00-\x1f]", url):
        raise UsageError("a URL has a space or line break in it: write %20 for a space")


def resolve_sources(
    arguments: Sequence[str],
    *,
    taken: Collection[str] = (),
    stalled_after: float | None = None,
    **options: Unpack[SourceOptions],
) -> list[Source]:
    """Turn files, folders, globs, URLs and ``/dev/videoN`` into sources, in the order given.

    Of a folder the files directly in it that end in one of :data:`VIDEO_EXTENSIONS` are taken, by
    name; of a glob (``**`` reaches into folders) those it matches. ``taken`` are ids in use already.
    A named file that does not exist is no usage error: its stream ends with a SourceError later.

    Raises UsageError for a folder or glob without any video file and for an unsupported scheme.
    """
    sources: list[Source] = []
    ids = set(taken)
    for url in (url for argument in arguments for url in _expand(argument)):
        source = source_for(url, taken=ids, stalled_after=stalled_after, **options)
        ids.add(source.id)
        sources.append(source)
    return sources


def _expand(argument: str) -> list[str]:
    """The paths or URLs one argument stands for."""
    if _scheme(argument) not in {None, "file"} or _DEVICE.fullmatch(argument):
        return [argument]
    path = Path(_local_path(argument))
    if path.is_dir():
        return _videos(path.iterdir(), f"folder {argument}")
    if glob.has_magic(str(path)) and not path.exists():
        return _videos(map(Path, glob.glob(str(path), recursive=True)), f"pattern {argument}")
    return [str(path)]


def _videos(paths: Iterable[Path], where: str) -> list[str]:
    """The video files among ``paths``, sorted; hidden ones (as macOS strews them) do not count."""
    found = sorted(
        str(path)
        for path in paths
        if path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        endings = " ".join(sorted(VIDEO_EXTENSIONS))
        raise UsageError(f"{where}: no video file there; file names may end in {endings}")
    return found


def _local_path(url: str) -> str:
    """A path as the file system takes it: without ``file://`` and with ``~`` replaced."""
    path = unquote(urlsplit(url).path) if _scheme(url) == "file" else url
    return str(Path(path).expanduser())


def _scheme(url: str) -> str | None:
    match = _SCHEME.match(url)
    return match[1].lower() if match else None
