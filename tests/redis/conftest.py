"""What several tests of Redis share; a broker for any test is in ``tests/conftest.py``."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.support.broker import RunningBroker, running_broker, servers


@pytest.fixture(autouse=True, scope="module")
def _late_sockets() -> Iterator[None]:
    """redis-py leaves the socket of a refused login to the garbage collector: not in the next file's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def broker_options() -> tuple[str, ...]:
    """Of the brokers of :func:`any_broker`; a file may have its own."""
    return ()


@pytest.fixture(scope="module", params=list(servers()))
def _each_server(
    request: pytest.FixtureRequest, broker_options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    folder = tmp_path_factory.mktemp("broker")
    with running_broker(folder, server=servers()[request.param], options=broker_options) as running:
        yield running


@pytest.fixture
def any_broker(_each_server: RunningBroker) -> RunningBroker:
    """Of every server that there is one after the other; running and empty."""
    _each_server.clean()
    return _each_server
