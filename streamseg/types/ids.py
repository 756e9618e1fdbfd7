"""Ids of streams: what they may be made of, and how one is made of a name.

An id stands in file names, Redis keys, metrics and URLs. It is in Unicode's composed form (NFC), so that one
name is one id, however it was typed: macOS stores file names decomposed.
"""

import unicodedata
from collections.abc import Collection, MutableMapping

MAX_CHARACTERS = 64
MAX_BYTES = 192
"""As UTF-8. A file name holds 255 bytes, and endings such as ``.part12.mp4.partial`` need theirs."""
ID_RULE = f"1 to {MAX_CHARACTERS} letters and digits of any script, _ . - (at most {MAX_BYTES} bytes)"
ID_PATTERN = r"^[^\u0000-,/:-@\[-\^`{-\u007f]{1,64}$"
"""For a JSON Schema: what dialects of regular expressions have in common knows no scripts, so this leaves
out characters of ASCII only."""
_ASCII = frozenset("_.-")


def parse_stream_id(text: str) -> str:
    """The id that ``text`` spells. Raises ValueError that says what is allowed."""
    name = unicodedata.normalize("NFC", text)
    if not (name and all(map(_is_allowed, name)) and _fits(name)):
        raise ValueError(f"allowed are {ID_RULE}")
    return name


def make_stream_id(
    words: str, taken: Collection[str] = (), *, numbers: MutableMapping[str, int] | None = None
) -> str:
    """An id of any text, or ``stream`` if no character fits; with ``-2``, ``-3``, … if it is taken.

    ``numbers`` remembers how far that went, for calls in a row whose ``taken`` only grows: recorders give
    thousands of files one name, each in another folder.
    """
    plain = "".join(c if _is_allowed(c) else " " for c in unicodedata.normalize("NFC", words))
    stem = _cut("-".join(plain.split()).strip("-."), room="") or "stream"
    name, number = stem, 1
    if name in taken and numbers is not None:
        number = numbers.get(stem, 1)
    while name in taken:
        number += 1
        ending = f"-{number}"
        name = _cut(stem, room=ending) + ending
    if numbers is not None:
        numbers[stem] = number
    return name


def _is_allowed(character: str) -> bool:
    # Marks are letters' vowels in Hindi or Thai.
    category = unicodedata.category(character)
    return character in _ASCII or category[0] in "LM" or category == "Nd"


def _fits(name: str) -> bool:
    return len(name) <= MAX_CHARACTERS and len(name.encode()) <= MAX_BYTES


def _cut(name: str, *, room: str) -> str:
    """As much of ``name`` as leaves room for an ending."""
    name = name[: MAX_CHARACTERS - len(room)]
    return name.encode()[: MAX_BYTES - len(room)].decode(errors="ignore")
