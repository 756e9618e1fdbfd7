"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.logs import logging_as_before

if TYPE_CHECKING:
    from tests.support.broker import RunningBroker

# Tests run side by side on all cores: threads of their own would only get into each other's way.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a CUDA device are skipped where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


_LONGEST = (
    "models/test_export.py",
    "training/test_loop.py",
    "scale/test_ray.py",
    "scale/test_engines.py",
    "scale/test_camera_worker.py",
    "web/test_browser.py",
)
"""Files of more than half a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: one that begins last has the machine to itself at the end."""
    items.sort(key=lambda item: not str(item.path).endswith(_LONGEST))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    with logging_as_before():
        yield


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for all tests of a file, as the last one has left it."""
    from tests.support.broker import running_broker  # tests of the network alone do without redis

    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def broker(shared_broker: RunningBroker) -> RunningBroker:
    """The file's broker, running and empty."""
    shared_broker.clean()
    return shared_broker
