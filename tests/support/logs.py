"""Logging of a command that a test runs in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_as_before() -> Iterator[None]:
    """A command sets up logging to a stderr that ends with the test, or earlier."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        for handler in list(root.handlers):
            if type(handler) is logging.StreamHandler and handler not in handlers:
                root.removeHandler(handler)
        root.setLevel(level)
