"""What to open: the arguments a user gives, turned into sources with an id each."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

from streamseg.errors import SourceError, UsageError, mask_password
from streamseg.sources.address import with_login
from streamseg.sources.places import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS, files_of
from streamseg.types.ids import make_stream_id, parse_stream_id

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt"})
WEB_SCHEMES = frozenset({"http", "https"})
STREAM_ENDINGS = frozenset({".mjpeg", ".mjpg"})
"""Of URLs: cameras use them as well as files."""

OPEN_TIMEOUT = 5.0
"""Seconds until an opening counts as failed: analysing a camera behind a slow link takes 2 to 3."""
READ_TIMEOUT = 5.0
"""Seconds of silence after which a stream counts as stalled: five frames of a 1 fps camera."""
PLAYLIST_READ_TIMEOUT = 30.0
"""The same for HLS, which delivers whole segments of up to 10 s."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """One video stream to read. Raises UsageError when a value is out of range."""

    id: str
    """See :mod:`streamseg.types.ids`."""
    url: str
    """Path or URL, credentials included: show :attr:`shown` instead."""
    live: bool | None
    """A camera or another stream without an end; False for a recording that is read in full; None as long
    as that is not known, which the decode worker finds out when it opens a URL of the web."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries the video; other protocols ignore it."""
    decode: Literal["auto", "cpu", "cuda", "qsv"] = "auto"
    """Where it is decoded; the processor does it where there is no such device."""
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
    damaged: Literal["keep", "drop"] = "keep"
    """Live sources: what happens to frames that were patched up, or before which packets were lost."""
    max_fps: float | None = None
    """Live sources: so many frames a second at most, evenly spaced; None for all that come."""
    first_epoch: int = 0
    """Epoch of its first opening, 0 or more. Lower ones are those of engines that had the stream before."""
    claim: int | None = None
    """See :attr:`streamseg.types.StreamInfo.claim`."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "id", parse_stream_id(self.id))
        except ValueError as error:
            raise UsageError(f"stream id {self.id!r}: {error}") from error
        if self.transport not in {"tcp", "udp"}:
            raise UsageError(f"stream {self.id}: transport {self.transport!r}: allowed are tcp, udp")
        if self.decode not in {"auto", "cpu", "cuda", "qsv"}:
            raise UsageError(f"stream {self.id}: decode {self.decode!r}: allowed are auto, cpu, cuda, qsv")
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
        if self.max_fps is not None and not 0 < self.max_fps < math.inf:
            raise UsageError(f"stream {self.id}: max_fps {self.max_fps}: must be more than 0")
        if self.first_epoch < 0:
            raise UsageError(f"stream {self.id}: first_epoch must be 0 or more")

    @property
    def shown(self) -> str:
        """The URL for people: passwords and tokens are replaced by ``***``."""
        return mask_password(self.url) if _SCHEME.match(self.url) else self.url

    @property
    def recorded(self) -> bool:
        """Whether it is a recording; taken for one by its name as long as nothing better is known."""
        if self.live is not None:
            return not self.live
        endings = (VIDEO_EXTENSIONS | PICTURE_EXTENSIONS) - STREAM_ENDINGS
        return Path(_public_words(self.url)).suffix.lower() in endings

    @property
    def place(self) -> str:
        """Where it is, for people and for results: absolute path, or URL as in :attr:`shown`."""
        return self.shown if _SCHEME.match(self.url) else os.path.abspath(self.url)

    def __repr__(self) -> str:
        return f"Source(id={self.id!r}, url={self.shown!r}, live={self.live})"


class SourceFields(TypedDict, total=False):
    """Fields of :class:`Source` that a user sets as they are."""

    transport: Literal["tcp", "udp"]
    decode: Literal["auto", "cpu", "cuda", "qsv"]
    start: float
    end: float | None
    stride: int
    deinterlace: Literal["auto", "off"]
    reconnect_attempts: int | None
    damaged: Literal["keep", "drop"]
    max_fps: float | None
    first_epoch: int
    claim: int | None


class SourceOptions(SourceFields, total=False):
    """What a user may say of a source beside its place: the keywords of :func:`source_for`."""

    stalled_after: float | None
    live: bool | None
    user: str | None
    password: str | None


def is_live(url: str) -> bool | None:
    """Whether a path or URL is a live source; None if only the web server's answer can tell.

    Raises UsageError for an unknown scheme.
    """
    scheme = _scheme(url)
    if scheme is None or scheme == "file":
        return _DEVICE.fullmatch(url) is not None
    if scheme in WEB_SCHEMES:
        return None
    if scheme in LIVE_SCHEMES:
        return True
    allowed = ", ".join(sorted(LIVE_SCHEMES | WEB_SCHEMES))
    raise UsageError(
        f"{mask_password(url)}: scheme {scheme!r} is not supported; allowed are {allowed} and files"
    )


def default_stream_id(url: str, taken: Collection[str] = ()) -> str:
    """Make an id from a file's stem or a URL's host and path, with ``-2``, ``-3``, … if it is taken."""
    return make_stream_id(Path(url).stem if _scheme(url) in {None, "file"} else _public_words(url), taken)


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
    live: bool | None = None,
    user: str | None = None,
    password: str | None = None,
    **fields: Unpack[SourceFields],
) -> Source:
    """Describe one path or URL; nothing is opened.

    Args:
        url: File, URL or ``/dev/videoN``.
        stream_id: Made from the URL if not given.
        taken: Ids in use already.
        stalled_after: :attr:`Source.read_timeout` in seconds, None for the protocol's usual one.
        live: Whether it is a live source, None to find out.
        user: For a URL that has none; any characters but a colon.
        password: The same; any characters.
        fields: Of :class:`Source`.

    Raises:
        UsageError: The scheme is not supported, a value is out of range, or the URL can mean two hosts.
    """
    url = _checked(url, user, password)
    told = is_live(url)
    if live is False and _DEVICE.fullmatch(url):
        raise UsageError(f"{url}: a capture device cannot be read as a recording: live must be true")
    segments = _public_words(url).lower().endswith(".m3u8")
    return Source(
        id=stream_id or default_stream_id(url, taken),
        url=_local_path(url) if _scheme(url) in {None, "file"} else url,
        live=told if live is None else live,
        read_timeout=stalled_after or (PLAYLIST_READ_TIMEOUT if segments else READ_TIMEOUT),
        **fields,
    )


def _checked(url: str, user: str | None, password: str | None) -> str:
    """The URL with user and password escaped.

    Raises UsageError for what neither FFmpeg nor our masking of passwords could cope with.
    """
    if not _is_text(url):
        raise UsageError(_not_text(url))
    local = _scheme(url) in {None, "file"}
    broken = not local and re.search(r"[\x00-\x1f]", url)
    url = url if broken else with_login(url, user, password)
    if not local and re.search(r"[\s\x00-\x1f]", url):
        raise UsageError("a URL has a space or line break in it: write %20 for a space")
    return url


def _is_text(url: str) -> bool:
    return "\0" not in url and url == url.encode(errors="replace").decode()


def _not_text(url: str) -> str:
    try:
        name = os.fsencode(url).decode(errors="backslashreplace").replace("\0", "\\0")
    except UnicodeEncodeError:  # half a character that no file system gave
        name = ascii(url)
    return f"{name}: the name is not valid UTF-8; give the file another one"


def raise_error(error: SourceError) -> None:
    """Raise what a caller does not want to hear of otherwise."""
    raise error


def resolve_sources(
    arguments: Sequence[str],
    *,
    taken: Collection[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
    recursive: bool = False,
    refuse: Callable[[SourceError], None] = raise_error,
    **options: Unpack[SourceOptions],
) -> list[Source]:
    """Turn files, folders, globs, URLs and ``/dev/videoN`` into sources, in the order given.

    Of a folder the files directly in it are taken that end in one of :data:`VIDEO_EXTENSIONS` or
    :data:`PICTURE_EXTENSIONS`, by name; of a glob (``**`` reaches into folders) those it matches.
    A named file that does not exist is no usage error: its stream ends with a SourceError later.

    Args:
        arguments: What the user named.
        taken: Ids in use already.
        known: Ids that sources had before, by :func:`place_key`: they keep them, and no other gets them.
        recursive: Take what lies in a folder's folders, too.
        refuse: Hears of each file that cannot be read by its name; the others are taken.
        options: Those of :func:`source_for`.

    Raises:
        UsageError: A folder or glob has no file of these kinds; a scheme is not supported.
    """
    known = known or {}
    sources: list[Source] = []
    ids, reserved = set(taken), {one for ids in known.values() for one in ids}
    for url in _readable(arguments, recursive=recursive, refuse=refuse):
        source = source_for(url, taken=ids | reserved, **options)
        former = next((one for one in known.get(place_key(source.place), ()) if one not in ids), source.id)
        sources.append(replace(source, id=former))
        ids.add(former)
    return sources


def place_key(place: str) -> str:
    """What tells the places of sources apart: a file is the same by whatever links it is reached."""
    return place if _SCHEME.match(place) else os.path.realpath(place)


def _readable(
    arguments: Sequence[str], *, recursive: bool, refuse: Callable[[SourceError], None]
) -> Iterator[str]:
    """The paths and URLs that arguments stand for, but for those whose names are no text."""
    for argument in arguments:
        for url in _expand(argument, recursive=recursive):
            if _is_text(url):
                yield url
            else:
                refuse(SourceError(_not_text(url)))


def _expand(argument: str, *, recursive: bool) -> list[str]:
    """The paths or URLs one argument stands for."""
    if _scheme(argument) not in {None, "file"} or _DEVICE.fullmatch(argument):
        return [argument]
    return files_of(Path(_local_path(argument)), argument, recursive=recursive)


def _local_path(url: str) -> str:
    """A path as the file system takes it: without ``file://`` and with ``~`` replaced."""
    path = unquote(urlsplit(url).path) if _scheme(url) == "file" else url
    return str(Path(path).expanduser())


def _scheme(url: str) -> str | None:
    match = _SCHEME.match(url)
    return match[1].lower() if match else None
