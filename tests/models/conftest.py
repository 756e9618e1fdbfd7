"""What several tests of models share."""

import pytest

from tests.support.checkpoints import State, make_spec, make_state


@pytest.fixture(scope="session")
def solo() -> State:
    """The tensors of a small SOLO by mmdetection's names; not to be changed."""
    return make_state(make_spec())
