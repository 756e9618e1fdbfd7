"""Where results are sent to: a URL taken apart, its password kept out of sight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from streamseg.errors import UsageError, mask_password

_SIGNS = "with / ? # @ of a password as %2F %3F %23 %40"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was understood."""

    url: str
    """Without user and password."""
    scheme: str
    host: str
    port: int
    """Also where the URL names none."""
    user: str | None = None
    password: str = field(default="", repr=False)


def parse_address(url: str, ports: Mapping[str, int], form: str) -> Address:
    """Take a URL apart.

    Args:
        url: What the user wrote.
        ports: By scheme that is allowed, the port where the URL names none.
        form: For the message: how such a URL is written.

    Raises:
        UsageError: It is none, or of another scheme.
    """
    wrong = UsageError(f"{mask_password(url)}: not a valid URL; write {form}, {_SIGNS}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        url.encode()
        host.encode("idna")  # as the socket does, which fails for empty and endless labels
    except ValueError:
        raise wrong from None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    # urlsplit lets these signs pass or leaves them out; after a # there is nothing that is sent.
    odd = re.search(r"[\s\x00-\x1f\x7f#]", url) or not path.isascii()
    if parts.scheme not in ports or not host or odd:
        raise wrong
    where = f"[{host}]" if ":" in host else host
    return Address(
        f"{parts.scheme}://{where}{f':{port}' if port else ''}{path}",
        parts.scheme,
        host,
        port or ports[parts.scheme],
        None if parts.username is None else unquote(parts.username),
        unquote(parts.password or ""),
    )
