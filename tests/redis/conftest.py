"""One broker for all tests of a file; each finds it running and empty."""

from collections.abc import Iterator

import pytest

from tests.support.broker import RunningBroker, running_broker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def broker(server: RunningBroker) -> RunningBroker:
    server.clean()
    return server
