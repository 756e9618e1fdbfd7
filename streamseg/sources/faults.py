"""What went wrong with a source, in words for its user. Runs in the decode worker."""

from __future__ import annotations

import av

from streamseg.sources.messages import Refused


class ReadError(Exception):
    """A source cannot be opened or read on; the text says why, without path or URL."""

    def __init__(self, text: str, refused: Refused | None = None) -> None:
        super().__init__(text)
        self.refused = refused


def refusal(error: Exception) -> Refused | None:
    """Whether a server said no, so that asking again soon will not help."""
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return "user"
    return "path" if isinstance(error, av.error.HTTPNotFoundError) else None


def explain(error: Exception, *, live: bool = False) -> str:
    """One line on what FFmpeg or the system said, without the path or URL that they put into it."""
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return "no data came in time"
    if live and isinstance(error, av.error.HTTPUnauthorizedError):
        return "user or password refused (401 Unauthorized)"
    if live and isinstance(error, av.error.HTTPForbiddenError):
        return "access refused (403 Forbidden)"
    if live and isinstance(error, av.error.HTTPNotFoundError):
        return "no such stream there (404 Not Found)"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, av.error.InvalidDataError):
        return f"no usable video came ({text})" if live else f"not a readable video ({text})"
    return str(text)
