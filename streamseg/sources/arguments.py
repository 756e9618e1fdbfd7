"""The arguments that a user gives, turned into sources with an id each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

from streamseg.errors import SourceError, UsageError, mask_password
from streamseg.sources.address import with_login
from streamseg.sources.places import files_of
from streamseg.sources.source import READ_TIMEOUT, Source, place_key, public_words, scheme_of
from streamseg.types.ids import make_stream_id

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt"})
WEB_SCHEMES = frozenset({"http", "https"})

PLAYLIST_READ_TIMEOUT = 30.0
"""Seconds of silence after which HLS counts as stalled: it delivers whole segments of up to 10 s."""

_DEVICE = re.compile(r"/dev/video\d+")


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
    first_epoch: int | None


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
    scheme = scheme_of(url)
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
    return make_stream_id(Path(url).stem if scheme_of(url) in {None, "file"} else public_words(url), taken)


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
    segments = public_words(url).lower().endswith(".m3u8")
    return Source(
        id=stream_id or default_stream_id(url, taken),
        url=_local_path(url) if scheme_of(url) in {None, "file"} else url,
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
    local = scheme_of(url) in {None, "file"}
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
    """Raise the error: the default where a caller may take refused files in another way."""
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
    if scheme_of(argument) not in {None, "file"} or _DEVICE.fullmatch(argument):
        return [argument]
    return files_of(Path(_local_path(argument)), argument, recursive=recursive)


def _local_path(url: str) -> str:
    """A path as the file system takes it: without ``file://`` and with ``~`` replaced."""
    path = unquote(urlsplit(url).path) if scheme_of(url) == "file" else url
    return str(Path(path).expanduser())
