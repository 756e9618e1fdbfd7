import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.types.ids import ID_PATTERN, MAX_BYTES, MAX_CHARACTERS, make_stream_id, parse_stream_id


@given(st.text(max_size=300), st.lists(st.text(max_size=70), max_size=4))
def test_any_text_gives_an_id_that_is_allowed_and_free(words: str, others: list[str]) -> None:
    taken: set[str] = set()
    for text in [words, words, words, *others]:
        made = make_stream_id(text, taken)
        assert made not in taken
        assert parse_stream_id(made) == made
        assert len(made) <= MAX_CHARACTERS
        assert len(made.encode()) <= MAX_BYTES
        assert re.fullmatch(ID_PATTERN, made)
        taken.add(made)


@pytest.mark.parametrize(
    "text", ["lobby", "a.b_c-9", "видео", "公園", "हिन्दी", "ภาษาไทย", "עברית", "٣", "x" * 64]
)
def test_letters_and_digits_of_every_script_are_allowed(text: str) -> None:
    assert parse_stream_id(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a/b",
        "a\n",
        "a\0",
        "{a}",
        "a:b",
        "x" * 65,
        "𠀀" * 49,
        "a\u202eb",
        "🎉",
        "½",
        "\ud800",
        "a\u200bb",
    ],
)
def test_everything_else_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 64 letters and digits of any script"):
        parse_stream_id(text)


def test_one_name_is_one_id_however_it_was_typed() -> None:
    assert parse_stream_id("cafe\u0301") == parse_stream_id("café") == make_stream_id("cafe\u0301")
