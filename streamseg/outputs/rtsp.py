"""A client that records to an RTSP server (RFC 2326): ANNOUNCE, SETUP, RECORD; RTP follows in its connection.

FFmpeg has one, but PyAV holds Python's lock while it connects: a server that took the connection and said
nothing stopped all threads of a run for 2.1 s (measured, with a time-out of 2 s).
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress

from streamseg.errors import mask_password
from streamseg.outputs.address import Address, parse_address
from streamseg.outputs.rtsp_login import Login, login_for

ANSWER_SECONDS = 5.0
"""For the server to take the connection, and to answer each request."""
STUCK_SECONDS = 10.0
"""Without a byte taken by the server after which the connection is given up."""
GOODBYE_SECONDS = 0.5
SEND_BUFFER = 1 << 18
"""Bytes that wait in the system, which doubles it: what lies there is late, 1 s at 4 Mbit/s."""
_LONGEST_ANSWER = 1 << 16
_PORTS = {"rtsp": 554, "rtsps": 322}
_FORM = "rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH or rtsps://"
_REFUSALS = {
    "401": "user or password refused (401 Unauthorized)",
    "403": "access refused (403 Forbidden)",
    "404": "no such path there (404 Not Found)",
}


class RtspError(Exception):
    """The server cannot be reached, refuses, or is gone; the text says why and holds no URL."""


def parse_rtsp(url: str) -> Address:
    """Take a URL apart. Raises UsageError."""
    return parse_address(url, _PORTS, _FORM)


class RecordingSession:
    """An open connection that takes RTP packets. Never waits for longer than it is told to."""

    def __init__(self, address: Address, description: str) -> None:
        """Connect, and agree on what is sent: one track, in this connection.

        Args:
            address: Where to.
            description: Of the track, as SDP (RFC 8866).

        Raises:
            RtspError: There is no server, or it does not take it.
        """
        self._address = address
        self._login: Login | None = None
        self._number = 0
        self._session = ""
        self._channels = (0, 1)
        self._unsent = bytearray()
        self._stuck_since = 0.0
        self._socket = _connect(address)
        try:
            self._agree(description)
            self._socket.setblocking(False)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, (OSError, ValueError)):
                raise RtspError(_reason(error)) from None
            raise

    def ready(self) -> bool:
        """Whether all that was sent has left this process; does not wait. Raises RtspError."""
        self._hear()
        return self._flush(0.0)

    def send(self, packets: Sequence[bytes], *, seconds: float) -> bool:
        """Send RTP and RTCP packets; whether all of it left within ``seconds``. The rest follows later.

        Raises RtspError if the server is gone, or has taken nothing for too long.
        """
        for packet in packets:
            control = 192 <= packet[1] <= 223  # RFC 5761: so the types of RTCP packets differ from RTP's
            self._unsent += b"$" + bytes([self._channels[control]]) + len(packet).to_bytes(2, "big") + packet
        self._hear()
        return self._flush(seconds)

    def close(self) -> None:
        """End the session: what was sent arrives, if the server takes it within half a second."""
        with suppress(OSError, ValueError, RtspError):
            if self._flush(GOODBYE_SECONDS):
                self._socket.send(self._request("TEARDOWN", self._address.url))
                self._socket.shutdown(socket.SHUT_WR)
                # Closed with an answer unread the system would take back what it has not sent yet.
                self._socket.settimeout(GOODBYE_SECONDS)
                while self._socket.recv(_LONGEST_ANSWER):
                    pass
        self._socket.close()

    def abandon(self) -> None:
        """Disconnect at once."""
        self._socket.close()

    def _agree(self, description: str) -> None:
        url = self._address.url
        track = url + ("" if url.endswith("/") else "/") + "streamid=0"
        sdp = {"Content-Type": "application/sdp"}
        self._ask("ANNOUNCE", url, sdp, description.encode())
        transport = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"
        answer = self._ask("SETUP", track, {"Transport": transport})
        self._session = answer.get("session", "").partition(";")[0]
        if found := re.search(r"interleaved=(\d{1,3})(?:-(\d{1,3}))?", answer.get("transport", "")):
            first = int(found[1])
            self._channels = (first & 0xFF, int(found[2] or first + 1) & 0xFF)
        self._ask("RECORD", url, {"Range": "npt=0.000-"})

    def _ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> dict[str, str]:
        """Make a request; returns the headers of the answer, their names in small letters."""
        status, reason, answer, challenges = self._exchange(method, url, headers, body)
        if status == "401" and self._address.user is not None:  # at first, and when its number has expired
            self._login = login_for(challenges, self._address.user, self._address.password)
            status, reason, answer, _ = self._exchange(method, url, headers, body)
        if status == "401" and self._address.user is None:
            raise RtspError("it wants user and password (401 Unauthorized)")
        if status != "200":
            raise RtspError(_REFUSALS.get(status) or f"it refuses {method} ({status} {reason})")
        return answer

    def _exchange(
        self, method: str, url: str, headers: dict[str, str] | None, body: bytes
    ) -> tuple[str, str, dict[str, str], list[str]]:
        until = time.monotonic() + ANSWER_SECONDS
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.sendall(self._request(method, url, headers, body))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive(until)
            if len(data) > _LONGEST_ANSWER:
                raise RtspError("it does not speak RTSP")
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [
            (name.strip().lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)
        ]
        answer = dict(pairs)
        status = re.fullmatch(r"RTSP/1\.\d (\d{3}) ?(.*)", first)
        if status is None:
            raise RtspError("it does not speak RTSP")
        length = answer.get("content-length", "0")
        while len(data) < (min(int(length), _LONGEST_ANSWER) if length.isdecimal() else 0):
            data += self._receive(until)
        reason = mask_password(re.sub(r"[^ -~]", "", status[2])[:80])
        return status[1], reason, answer, [value for name, value in pairs if name == "www-authenticate"]

    def _receive(self, until: float) -> bytes:
        self._socket.settimeout(max(0.01, until - time.monotonic()))
        data = self._socket.recv(_LONGEST_ANSWER)
        if not data:
            raise RtspError("it closed the connection")
        if time.monotonic() > until:
            raise RtspError("no answer in time")
        return data

    def _request(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> bytes:
        self._number += 1
        fields = {"CSeq": str(self._number), "User-Agent": "streamseg"} | (headers or {})
        if self._session:
            fields["Session"] = self._session
        if self._login is not None:
            fields["Authorization"] = self._login(method, url)
        if body:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _hear(self) -> None:
        """Read and drop what the server sends, such as reports: unread it fills the connection."""
        try:
            while self._socket.recv(_LONGEST_ANSWER):
                pass
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise RtspError(_reason(error)) from None
        raise RtspError("it closed the connection")

    def _flush(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._unsent:
            try:
                del self._unsent[: self._socket.send(self._unsent)]
                self._stuck_since = 0.0
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not self._wait_for_room(until):
                    return False
            except OSError as error:
                raise RtspError(_reason(error)) from None
        return True

    def _wait_for_room(self, until: float) -> bool:
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since > STUCK_SECONDS:
            raise RtspError(f"it has taken nothing for {STUCK_SECONDS:g} s")
        if now >= until:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        poll.poll(1000 * min(until - now, STUCK_SECONDS))
        return True


def _connect(address: Address) -> socket.socket:
    """Raises RtspError."""
    connection = None
    try:
        connection = socket.create_connection((address.host, address.port), timeout=ANSWER_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme == "rtsps":
            return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)
        return connection
    except (OSError, ValueError) as error:
        if connection is not None:
            connection.close()
        raise RtspError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the host is not found"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return mask_password(getattr(error, "strerror", None) or str(error) or type(error).__name__)
