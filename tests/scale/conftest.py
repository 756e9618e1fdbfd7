"""What tests of several engines have in common."""

from __future__ import annotations

import pytest

from tests.support.broker import RunningBroker


@pytest.fixture
def broker(shared_broker: RunningBroker) -> RunningBroker:
    shared_broker.clean()
    return shared_broker
