"""Trying again: what is said of it meanwhile."""

from __future__ import annotations

import pytest

from streamseg.errors import OutputError
from streamseg.outputs.patience import Patience, PeerAwayError


def test_a_trouble_that_ends_in_another_error_is_over() -> None:
    patience = Patience("the peer")
    said: list[str | None] = []

    def act() -> None:
        said.append(patience.trouble)
        if len(said) == 1:
            raise PeerAwayError("no answer")
        raise OutputError("it wants another key")

    with pytest.raises(OutputError, match="another key"):
        patience.retry(act)
    assert said == [None, "the peer cannot be reached (no answer)"]
    assert patience.trouble is None
