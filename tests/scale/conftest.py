"""What tests of several engines have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import RunningBroker, running_broker


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def broker(shared_broker: RunningBroker) -> RunningBroker:
    shared_broker.clean()
    return shared_broker
