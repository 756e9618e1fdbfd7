"""User and password in the URL of a camera, as people type them.

Cameras accept any character in a password, URLs do not: ``rtsp://admin:pa/Secret@10.0.0.5/x`` names the host
``admin`` (RFC 3986, section 3.2), and FFmpeg would look for that. A URL is taken only if it can mean one
host; from here on user and password are escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from streamseg.errors import UsageError, mask_password

LOGIN_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "http", "https"})
"""Those whose URLs may have a user; ``udp://@239.0.0.1`` means something else."""

_PLACE = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.%\w]+\])(?::(?P<port>\d{1,5}))?")
"""Host and port."""
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_HINT = (
    "write / ? # @ in user or password as %2F %3F %23 %40 (and an @ behind the host as %40), "
    "or give the keys user and password"
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read a URL."""

    user: str
    """User and password as they stand there, empty if there are none."""
    place: str
    """All behind the @."""

    def url(self, scheme: str) -> str:
        if not self.user:
            return f"{scheme}://{self.place}"
        name, colon, password = self.user.partition(":")
        return f"{scheme}://{_escaped(name)}{colon}{_escaped(password)}@{self.place}"


def escape_login(url: str) -> str:
    """The same URL with user and password escaped as FFmpeg and servers understand it.

    A ``%`` with two hexadecimal digits is an escape already; any other character is taken as it is.
    Raises UsageError if the URL has no readable host, or could mean more than one.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in LOGIN_SCHEMES:
        return url
    readings = _readings(rest)
    if len(readings) == 1:
        return readings[0].url(scheme)
    if not readings:
        raise UsageError(f"{mask_password(url)}: no host and port can be read from it; {_HINT}")
    # Of the last reading nothing is shown that is a password in any of the others.
    shown = mask_password(readings[-1].url(scheme))
    raise UsageError(f"{shown}: it can mean more than one host; {_HINT}")


def with_login(url: str, user: str | None, password: str | None) -> str:
    """Put user and password, as they are, into a URL that has none. Raises UsageError."""
    if user is None and password is None:
        return escape_login(url)
    shown = mask_password(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in LOGIN_SCHEMES:
        allowed = ", ".join(sorted(LOGIN_SCHEMES))
        raise UsageError(f"{shown}: user and password are for URLs that begin with {allowed}")
    if ":" in (user or ""):
        raise UsageError(f"{shown}: a user cannot have a colon in it")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in place:
        raise UsageError(
            f"{shown}: user and password are in the URL and in keys of their own; give one of them"
        )
    if not _is_place(place):
        raise UsageError(f"{shown}: no host and port can be read from it")
    login = quote(user or "", safe="") + ("" if password is None else ":" + quote(password, safe=""))
    return f"{scheme}://{login}@{rest}"


def _readings(rest: str) -> list[_Reading]:
    """All ways to read what stands behind ``://``: user and password may end at the last @ of each part.

    Parts end at ``/``, ``?`` or ``#``. Behind the first part, an @ can only be the end of a password if there
    is a colon somewhere before it.
    """
    readings = []
    begin = 0
    for part in re.split(r"(?<=[/?#])", rest):
        at = part.rfind("@")
        user = rest[: begin + at] if at >= 0 else ""
        possible = begin == 0 or (at >= 0 and ":" in user)
        if possible and _is_place(part[at + 1 :].rstrip("/?#")):
            readings.append(_Reading(user, rest[begin + at + 1 :]))
        begin += len(part)
    return readings


def _is_place(text: str) -> bool:
    match = _PLACE.fullmatch(text)
    return match is not None and int(match["port"] or 0) < 1 << 16


def _escaped(text: str) -> str:
    """Escape everything but what is escaped already."""
    pieces = _ESCAPE.split(text)
    escapes = [*_ESCAPE.findall(text), ""]
    return "".join(quote(piece, safe="") + escape for piece, escape in zip(pieces, escapes, strict=True))
