"""Frame results, and JPEG overlays if asked for, as Redis streams."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamseg.config import OverlayOptions
from streamseg.overlay.paint import Painter
from streamseg.redis.keys import events_key, results_key
from streamseg.redis.replay import ReplayBuffer
from streamseg.redis.retry import RetryingClient
from streamseg.redis.status import StatusBoard
from streamseg.redis.writer import RedisWriter
from streamseg.types import FramePolicy, FrameResult, Output, Pixels, StreamInfo
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds: time for a broker to be restarted on another machine."""


class RedisOutput(Output):
    """Publishes to ``streamseg:{STREAM}:`` results, overlays, events, status; and to ``streamseg:streams``.

    While the broker is down its writers wait, and the backlogs before them keep the results. What was lost
    with an answer is sent again and is there once nevertheless; results of the last seconds are sent again
    as well to a broker that died and comes back without them.
    """

    def __init__(
        self,
        url: str,
        *,
        overlays: bool = False,
        maxlen: int = 1000,
        overlays_maxlen: int = 50,
        patience: float = PATIENCE,
        password_file: str | None = None,
        overlay: OverlayOptions | None = None,
        rules: Mapping[str, StreamRules] | None = None,
    ) -> None:
        """Set up; connects to nothing yet.

        Args:
            url: ``redis://`` or ``rediss://``; user and password may come from the environment
                instead, ``REDIS_USERNAME`` and ``REDIS_PASSWORD`` or ``REDIS_PASSWORD_FILE``.
            overlays: Publish the painted pictures too, as JPEG.
            maxlen: Results kept per stream, about.
            overlays_maxlen: Overlays kept per stream, about.
            patience: Seconds to wait for a broker that is down once all sources have ended by themselves;
                a user who stops the run sets a limit of their own.
            password_file: A file with the password, which is read again with every connection.
            overlay: What the painted pictures show.
            rules: Those of streams by id, whose zones and lines they show.

        Raises:
            UsageError: The URL is not valid, or the file cannot be read.
        """
        self.pixels = Pixels.RECENT if overlays else Pixels.NEVER
        self._overlay, self._rules = overlay, rules
        self._maxlen, self._overlays_maxlen = maxlen, overlays_maxlen
        self._client = RetryingClient(
            url, patience=patience, password_file=password_file, connected=self._restore
        )
        self._status = StatusBoard(url, password_file=password_file)
        self._buffers: dict[ReplayBuffer, str] = {}
        """Of which stream, in the order in which they were opened."""
        self._checked = False
        self._resumed: dict[str, float] = {}

    @property
    def trouble(self) -> str | None:
        """Why the broker takes nothing now, in any thread; None while it does, as far as is known."""
        found = self._client.outage.trouble or self._status.outage.trouble
        return None if found is None else f"{self._client.broker} {found}"

    @property
    def missed(self) -> Mapping[tuple[str, str], int]:
        """Results that were trimmed before a group of subscribers had read them, by stream and group."""
        return self._status.groups.missed

    def check(self, streams: Sequence[str] = ()) -> None:  # noqa: ARG002  one broker for all
        """Make sure, before anything is processed, that the broker lets us in. Raises UsageError.

        One that cannot be reached is warned of and tried again with every result. Checked once: later the
        connection is the writers'.
        """
        if not self._checked:
            self._checked = True
            self._client.check()

    def report(self, stream: str, **fields: str | float) -> None:
        """Set fields of the status hash that only the run knows (``state``, ``dropped``, ``error``)."""
        self._status.report(stream, **fields)

    def take_over(self, stream: str, *, began: float) -> None:
        """Pass over what the broker has of an interrupted run, which began at ``began`` UNIX seconds.

        The results of the stream are to be written again, all of them and in order.
        """
        self._resumed[stream] = began

    def open(self, info: StreamInfo) -> RedisWriter:
        """Make the stream known. Raises UsageError or OutputError."""
        self.check()
        published = self._published(info.stream) if info.policy is FramePolicy.EVERY_FRAME else -1
        for old in [buffer for buffer in self._buffers if buffer.expired]:
            del self._buffers[old]
        buffer = ReplayBuffer(results_key(info.stream), "result", self._maxlen)
        event_buffer = ReplayBuffer(events_key(info.stream), "event", self._maxlen)
        self._buffers |= {buffer: info.stream, event_buffer: info.stream}
        self._status.opened(info)
        return RedisWriter(
            info,
            client=self._client,
            status=self._status,
            buffer=buffer,
            event_buffer=event_buffer,
            lengths=(self._maxlen, self._overlays_maxlen),
            painter=Painter(self._overlay, self._rules) if self.pixels is Pixels.RECENT else None,
            published=published,
        )

    def hurry(self, patience: float | None = None) -> None:
        """Take notice that the run is over: a broker that is down is waited for ``patience`` seconds."""
        self._client.hurry(patience)

    def shutdown(self) -> None:
        """Publish the last status and disconnect."""
        self._status.stop()
        self._client.close()

    def _published(self, stream: str) -> int:
        """Number of the last frame published by the run that is resumed, -1 if the broker has none."""
        began = self._resumed.pop(stream, None)
        if began is None:
            return -1
        newest: Any = self._client.retry(lambda client: client.xrevrange(results_key(stream), count=1))
        try:
            last = msgspec.json.decode(newest[0][1][b"result"], type=FrameResult)
        except (LookupError, msgspec.DecodeError):
            return -1
        return last.frame if last.time >= began else -1  # else it is of an earlier run

    def _restore(self, connection: Any) -> None:
        """Bring a broker that forgot its last seconds up to date, before it gets anything newer."""
        for buffer, stream in self._buffers.items():
            if count := buffer.restore(connection):
                what = f"{buffer.field_name}s"
                logger.warning("%s had lost %d %s of stream %s", self._client.broker, count, what, stream)
