"""Who may look: this machine alone, or everybody who has the token."""

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from streamseg.errors import UsageError

SHORTEST_TOKEN = 16
"""Characters: a shorter one can be guessed."""
_COOKIE = "streamseg_token"
_FORM = """<!doctype html><meta name="viewport" content="width=device-width"><title>streamseg</title>
<body style="font: 16px system-ui; display: grid; place-items: center; min-height: 90vh">
<form><label>Token <input name="token" type="password" autofocus></label> <button>Enter</button></form>
"""


@dataclass(frozen=True, slots=True)
class Access:
    """The address that is listened on, and what a visitor has to know."""

    host: str
    token: str | None = field(default=None, repr=False)

    def check(self, *, host: str, token: str) -> None:
        """Make sure that other machines need a token. Raises UsageError.

        ``host`` and ``token`` are what the user calls the two settings.
        """
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise UsageError(f"{token} must have at least {SHORTEST_TOKEN} characters")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"{host} {self.host} can be reached from other machines: set {token} (at least "
                f"{SHORTEST_TOKEN} characters), or listen on 127.0.0.1"
            )

    def middleware(self) -> Middleware:
        """What aiohttp asks before every request."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not _same_site(request):
                raise web.HTTPForbidden(text="this page is not to be used from another site\n")
            if self.token is None:
                if not is_loopback(_hostname(request.host)):
                    raise web.HTTPForbidden(text="reach this page as localhost or 127.0.0.1\n")
                return await handler(request)
            if (given := request.query.get("token")) is not None and self._is_token(given):
                return self._admit(request)
            if self._is_token(request.cookies.get(_COOKIE, "")) or self._is_token(_bearer(request)):
                return await handler(request)
            return web.Response(status=401, text=_FORM, content_type="text/html")

        return guard

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def _admit(self, request: web.Request) -> web.StreamResponse:
        """Move the token from the address bar, where it would be seen and kept, into a cookie."""
        answer = web.Response(status=303, headers={"Location": request.path})
        assert self.token is not None
        answer.set_cookie(
            _COOKIE, self.token, httponly=True, samesite="Strict", secure=request.secure, max_age=30 * 86400
        )
        return answer


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _same_site(request: web.Request) -> bool:
    """Browsers say from which page a WebSocket is opened: another site's script has no business here."""
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def _hostname(host: str) -> str:
    """Without the port. A name that resolves to this machine is another site's trick (DNS rebinding)."""
    return urlsplit(f"//{host}").hostname or ""


def _bearer(request: web.Request) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value if kind.lower() == "bearer" else ""
