"""Events as HTTP requests: each is POSTed as JSON to one address."""

from __future__ import annotations

import base64
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import urldefrag, urljoin

import msgspec

from streamseg.errors import UsageError, mask_password
from streamseg.outputs.address import Address, parse_address
from streamseg.outputs.patience import Patience, PeerAwayError
from streamseg.types import Frame, FrameResult, Instances, Output, StreamInfo, StreamWriter
from streamseg.types.zones import ZoneEvent

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""For the receiver to answer a request."""
_REDIRECTS = 5
_PASSING = frozenset({408, 425, 429})
"""Refusals that say: later."""
_PORTS = {"http": 80, "https": 443}
_FORM = "http://[USER:PASSWORD@]HOST[:PORT]/PATH or https://"


class WebhookOutput(Output):
    """POSTs events, those of a stream in their order; a receiver that is down is waited for.

    An event that the receiver refuses (4xx) is told in a warning and left out.
    """

    events_only = True
    writers_at_once = 4

    def __init__(self, url: str, *, cooldown: float = 0.0) -> None:
        """``cooldown``: seconds after a request in which the same event at the same place is left out.

        User and password of the URL are sent with each request (Basic, RFC 7617). Raises UsageError if the
        URL is none.
        """
        self._address, self._cooldown = parse_address(url, _PORTS, _FORM), cooldown
        self._patience = Patience(f"webhook {mask_password(self._address.url)}")

    def open(self, info: StreamInfo) -> StreamWriter:  # noqa: ARG002
        """A writer with a cooldown of its own."""
        return _WebhookWriter(self._address, self._patience, self._cooldown)

    @property
    def trouble(self) -> str | None:
        """Why the receiver takes nothing now."""
        return self._patience.trouble

    def hurry(self, patience: float | None = None) -> None:
        """Wait no longer than that for the receiver."""
        self._patience.hurry(patience)


class _WebhookWriter(StreamWriter):
    def __init__(self, address: Address, patience: Patience, cooldown: float) -> None:
        self._address, self._patience, self._cooldown = address, patience, cooldown
        self._sent: dict[tuple[str, str | None, str | None, str | None], float] = {}

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        for event in result.events or ():
            key = (event.event, event.zone, event.line, event.direction)
            now = time.monotonic()
            if now - self._sent.get(key, -float("inf")) < self._cooldown:
                continue
            self._sent[key] = now
            self._patience.retry(partial(self._post, event))

    def _post(self, event: ZoneEvent) -> None:
        """Raises PeerAwayError if it is worth trying again."""
        try:
            post(self._address, msgspec.json.encode(event))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code >= 500 or error.code in _PASSING:
                raise PeerAwayError(f"HTTP {error.code} {error.reason}") from None
            logger.warning(
                "webhook %s refuses an event (HTTP %d %s): left out",
                mask_password(self._address.url),
                error.code,
                error.reason,
            )
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            reason = getattr(error, "reason", error)
            raise PeerAwayError(getattr(reason, "strerror", None) or reason or type(error).__name__) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The library would follow a redirection with a GET, without the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def post(address: Address, body: bytes) -> None:
    """POST JSON; follows redirections with the same body, but with user and password on the same server only.

    Raises urllib.error.HTTPError for an answer of 400 and more, OSError or HTTPException without one.
    """
    target = address
    for _ in range(_REDIRECTS):
        headers = {"Content-Type": "application/json", "User-Agent": "streamseg"}
        if address.user is not None and _server(target) == _server(address):
            login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        request = urllib.request.Request(target.url, data=body, headers=headers)
        try:
            with _OPENER.open(request, timeout=ANSWER_SECONDS):
                return
        except urllib.error.HTTPError as error:
            following = _redirected(target, error)
            if following is None:
                raise
            error.close()
            target = following
    raise OSError(f"more than {_REDIRECTS} redirections")


def _redirected(target: Address, answer: urllib.error.HTTPError) -> Address | None:
    """Where an answer sends us, if it does."""
    if answer.code not in {301, 302, 307, 308}:
        return None
    try:
        location, _ = urldefrag(urljoin(target.url, answer.headers.get("Location", "")))
        return parse_address(location, _PORTS, _FORM)
    except (ValueError, UsageError):
        return None


def _server(address: Address) -> tuple[str, str, int]:
    return address.scheme, address.host, address.port
