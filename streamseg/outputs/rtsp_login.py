"""User and password for an RTSP server: Basic (RFC 7617) and Digest (RFC 7616, and RFC 2069 without qop)."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence

_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}

Login = Callable[[str, str], str]
"""The header ``Authorization`` for a method and a URL."""


def login_for(challenges: Sequence[str], user: str, password: str) -> Login | None:
    """How to log in to a server that answered 401; None if it asks for a way that is not known.

    ``challenges``: its headers ``WWW-Authenticate``. Digest is preferred, which does not send the password.
    """
    for challenge in challenges:
        scheme, _, rest = challenge.partition(" ")
        fields = {key.lower(): quoted or plain for key, quoted, plain in _FIELD.findall(rest)}
        if scheme.lower() == "digest" and fields.get("algorithm", "MD5").upper() in _HASHES:
            return _Digest(fields, user, password)
    if any(challenge.lower().startswith("basic") for challenge in challenges):
        basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return lambda _method, _url: basic
    return None


class _Digest:
    """Answers one challenge, with a number for each answer."""

    def __init__(self, fields: Mapping[str, str], user: str, password: str) -> None:
        self._fields, self._user, self._password = fields, user, password
        self._numbers = itertools.count(1)

    def __call__(self, method: str, url: str) -> str:
        realm, nonce = self._fields.get("realm", ""), self._fields.get("nonce", "")
        given = {"username": self._user, "realm": realm, "nonce": nonce, "uri": url}
        secret, request = self._hash(self._user, realm, self._password), self._hash(method, url)
        if "auth" in re.split(r"[\s,]+", self._fields.get("qop", "")):
            client, number = secrets.token_hex(8), f"{next(self._numbers):08x}"
            given["response"] = self._hash(secret, nonce, number, client, "auth", request)
            ending = f', qop=auth, nc={number}, cnonce="{client}"'
        else:
            given["response"] = self._hash(secret, nonce, request)
            ending = ""
        if "algorithm" in self._fields:
            ending += f", algorithm={self._fields['algorithm']}"
        if "opaque" in self._fields:
            ending += f', opaque="{self._fields["opaque"]}"'
        return "Digest " + ", ".join(f'{key}="{value}"' for key, value in given.items()) + ending

    def _hash(self, *parts: str) -> str:
        hashed = _HASHES[self._fields.get("algorithm", "MD5").upper()]
        return hashed(":".join(parts).encode()).hexdigest()
