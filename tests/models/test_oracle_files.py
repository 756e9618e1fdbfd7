"""No file of reference numbers is passed over in silence."""

import pytest

from tests.support.oracle import Oracle, all_names, kind, names_of


@pytest.mark.parametrize("name", all_names())
def test_oracle_file_is_of_a_known_kind(name: str) -> None:
    assert kind(Oracle(name)) is not None, f"{name}.npz: the tests do not know what to do with it"


def test_oracle_files_are_there() -> None:
    assert names_of("head")
    assert names_of("detector")
    assert names_of("targets")
