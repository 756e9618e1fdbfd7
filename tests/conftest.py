"""What all tests share."""

import logging
import os
from collections.abc import Iterator

import pytest

# Tests run side by side, one per core: threads of their own would only get into each other's way.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a CUDA device are skipped where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logging to a stderr that ends with the test."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    ours = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in ours:
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)
