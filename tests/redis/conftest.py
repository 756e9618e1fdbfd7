"""One broker for all tests of a file; each finds it running and empty."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.support.broker import RunningBroker, running_broker


@pytest.fixture(autouse=True, scope="module")
def _late_sockets() -> Iterator[None]:
    """redis-py leaves the socket of a refused login to the garbage collector: not in the next file's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def broker(shared_broker: RunningBroker) -> RunningBroker:
    shared_broker.clean()
    return shared_broker
