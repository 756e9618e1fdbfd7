"""A receiver of webhooks."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """An HTTP server that answers with the statuses it is given, then 200, and keeps what it accepted."""

    def __init__(
        self,
        port: int = 0,
        *,
        answers: list[int] | None = None,
        location: str = "/elsewhere",
        login: str | None = None,
    ) -> None:
        """``location``: where redirections lead to; ``login``: "user:password", else it answers 401."""
        self.open = threading.Event()
        """No request is answered before."""
        self.open.set()
        self.accepted: list[dict[str, Any]] = []
        self.requests = 0
        self.logins: list[str | None] = []
        """The header ``Authorization`` of each request."""
        pending = list(answers or [])
        wanted = None if login is None else "Basic " + base64.b64encode(login.encode()).decode()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.requests += 1
                receiver.open.wait(20)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.logins.append(self.headers["Authorization"])
                status = pending.pop(0) if pending else 200
                if wanted is not None and receiver.logins[-1] != wanted:
                    status = 401
                if status == 200:
                    receiver.accepted.append(json.loads(body))
                self.send_response(status)
                if status in {301, 302, 307, 308}:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
