"""Every error streamseg raises on purpose, and the exit code each one ends the program with.

    StreamsegError
    ├── UsageError            2   wrong arguments, configuration or weights: nothing was started
    │   ├── ConfigError           a configuration key is unknown or has a bad value
    │   ├── DataError             images and annotations to train on have problems
    │   └── WeightsError          a weights file is missing, damaged or of another model
    └── RunError              1   the run failed
        ├── SourceError           a source could not be opened or read to its end
        └── OutputError           a result could not be written: the output of this stream ends
            ├── OutputGoneError       nor could any other: the output ends
            └── NotOwnerError         another engine publishes the stream: it ends here

The text of each is one line for the user: it names what is wrong and what is allowed, and never
holds a password (see :func:`mask_password`). Only a DataError has a line for each problem.
"""

import re
from collections.abc import Sequence

_MASKS = (
    # With one slash or more: pathlib makes "rtsp:/host" of a URL that was taken for a file name.
    # Cameras accept users and passwords with / ? # and @ in them, which no longer parse as a
    # URL. So all from the first colon to the last @ of the word goes, even if that is "host:80/a@b" now
    # and then.
    (re.compile(r"((?:\w:/|://)/*[^\s:]*):\S+@"), r"\1:***@"),
    # What stands alone before the @ may be a token, or a password whose colon was forgotten.
    (re.compile(r"((?:\w:/|://)/*)[^\s:/@]+@(?![^\s/]*@)"), r"\1***@"),
    # Where a port belongs: a password whose @ was forgotten.
    (re.compile(r"((?:\w:/|://)/*[^\s:/@\[\]]*):(?!\d{1,5}\b|\*\*\*@)[^\s/'\"]+"), r"\1:***"),
    (
        re.compile(
            r"((?:password|passwd|passw|pass|pwd|psw|pw|token|secret|signature|sig|credential|session|jwt"
            r"|auth|key)=)[^&\s'\"]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)


def mask_password(text: str) -> str:
    """Replace passwords and secret query values of all URLs in ``text`` by ``***``.

    FFmpeg and redis-py put whole URLs into their messages, so this is applied to any text that
    comes from them.
    """
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


class StreamsegError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(mask_password(" ".join(message.split())))


class UsageError(StreamsegError):
    """Wrong arguments, configuration or weights."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown or has a bad value."""


class DataError(UsageError):
    """Images and annotations to train on have problems: all of them are told at once."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        super().__init__(summary)
        lines = [mask_password(" ".join(problem.split())) for problem in problems]
        self.args = ("\n".join([str(self), *(f"  {line}" for line in lines)]),)


class WeightsError(UsageError):
    """A weights file is missing, damaged or belongs to another model."""


class RunError(StreamsegError):
    """The run failed after it had started."""


class SourceError(RunError):
    """A source could not be opened or read to its end."""


class OutputError(RunError):
    """A result could not be written."""


class OutputGoneError(OutputError):
    """No result of any stream can be written to this output any more."""


class NotOwnerError(OutputError):
    """Another engine has taken a stream over: nothing more of it may be published from here."""

    def __init__(self, stream: str, message: str) -> None:
        super().__init__(f"stream {stream} is owned by another engine: {message}")
        self.stream = stream


def without_traceback(error: StreamsegError) -> StreamsegError:
    """Drop the stack of a kept error: its variables would hold a frame's ring slot for ever."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
