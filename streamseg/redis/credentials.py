"""User and password for a broker, looked up anew whenever a connection is made: they change in long runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from streamseg.errors import UsageError
from streamseg.redis.trouble import PasswordFileError

_PASSWORD_FILE = "REDIS_PASSWORD_FILE"


class Credentials(redis.CredentialProvider):
    """What the URL says; else the password file; else ``REDIS_USERNAME`` and ``REDIS_PASSWORD``."""

    def __init__(self, user: str | None, password: str | None, file: Path | None) -> None:
        """What does not change: user and password of the URL, and where the file lies."""
        self._user, self._password, self._file = user, password, file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """As AUTH takes them. Raises PasswordFileError."""
        user = self._user or os.environ.get("REDIS_USERNAME")
        password = self._password or self._stored() or os.environ.get("REDIS_PASSWORD", "")
        return (user, password) if user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same: a file of one line keeps no event loop waiting."""
        return self.get_credentials()

    def _stored(self) -> str | None:
        if self._file is None:
            return None
        try:
            password = self._file.read_text().rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise PasswordFileError(f"password file {self._file}: {why}") from None
        if not password:
            raise PasswordFileError(f"password file {self._file}: it is empty")
        return password


def make_credentials(url: Mapping[str, Any], password_file: str | None) -> Credentials | None:
    """What to log in with; None: nothing at all.

    Args:
        url: ``username`` and ``password`` of the URL, if it has any.
        password_file: A file with the password on its only line; ``REDIS_PASSWORD_FILE`` by default.

    Raises:
        UsageError: There are two passwords, or the file cannot be read.
    """
    user, password = url.get("username"), url.get("password")
    if password and password_file:
        raise UsageError(f"Redis URL has a password, and so has password_file {password_file}: leave one out")
    path = password_file or (None if password else os.environ.get(_PASSWORD_FILE))
    found = Credentials(user, password, Path(path) if path else None)
    try:
        return found if any(found.get_credentials()) else None
    except PasswordFileError as error:
        raise UsageError(f"Redis: {error}") from None
