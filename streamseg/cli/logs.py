"""Log lines for people or, as JSON, for machines; passwords masked in both."""

import json
import logging
import sys
from datetime import UTC, datetime

from streamseg.errors import UsageError, mask_password

_LEVELS = {"debug", "info", "warning", "error"}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask_password(super().format(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return mask_password(json.dumps(line))


def configure_logging(level: str, *, as_json: bool) -> None:
    """Log to stderr. Raises UsageError for an unknown level."""
    if level.lower() not in _LEVELS:
        raise UsageError(f"--log-level {level!r}: allowed are debug, info, warning, error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Text("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
