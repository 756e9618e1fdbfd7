"""Whether the host of a URL has an address: FFmpeg calls it an input/output error when it has none."""

import socket
from urllib.parse import urlsplit


def unresolved(url: str) -> str | None:
    """One line that names the host of ``url`` if its name cannot be resolved; None if it can."""
    try:
        host = urlsplit(url).hostname
        if host:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return f"the name {host} cannot be resolved: no such host, or no name server answers"
    except ValueError:  # no URL at all
        return None
    return None
