"""What every server answers in trouble, for real: publisher and subscribers survive all of it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import RunningBroker, wait_for
from tests.support.everybody import everybody
from tests.support.troubles import TROUBLES

# redis-py leaves the socket of a login that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

logger = logging.getLogger(__name__)

KEY = "streamseg:{cam}:results"


@pytest.fixture(scope="module")
def broker_options() -> tuple[str, ...]:
    return ("--appendonly", "no")  # else it is its log that fails


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_all_of_them_wait_for_a_broker_in_trouble(any_broker: RunningBroker, trouble: Any) -> None:
    """It lasts until the publisher has noticed; then nothing is missing, and nothing twice."""
    with everybody(any_broker.url) as all_, any_broker.client(decode_responses=True) as client:
        heal = trouble(any_broker, client)
        try:
            all_.publish(20)
            wait_for(lambda: TROUBLES[trouble] in str(all_.output.trouble), what=TROUBLES[trouble])
        finally:
            heal()
        healed = time.monotonic()
        all_.wait()
        logger.info("healed after %.2f s", time.monotonic() - healed)
        wait_for(lambda: all_.output.trouble is None)


@pytest.mark.parametrize("how", ["deleted", "flushed", "group destroyed"])
def test_a_stream_that_goes_while_they_wait_for_it(any_broker: RunningBroker, how: str) -> None:
    with everybody(any_broker.url) as all_, any_broker.client() as client:
        wait_for(lambda: int(client.info("clients")["blocked_clients"]) >= 3)  # type: ignore[index]
        if how == "group destroyed":
            client.xtrim(KEY, maxlen=0, approximate=False)  # else it would begin anew with what is there
            client.xgroup_destroy(KEY, "g")
        else:
            client.delete(KEY) if how == "deleted" else client.flushall()
        all_.publish(20)
        all_.wait()


def test_a_broker_that_loads_a_large_file(any_broker: RunningBroker, tmp_path: Path) -> None:
    slowly = ("--key-load-delay", "50000")  # microseconds a key
    options = any_broker.options
    try:
        with everybody(any_broker.url) as all_, any_broker.client() as client:
            for i in range(30):
                client.set(f"key {i}", os.urandom(300_000))
            client.save()
            any_broker.kill()
            any_broker.options = (*options, *slowly)
            any_broker.start(wait=False)
            all_.publish(20)
            wait_for(lambda: "is loading" in str(all_.output.trouble), what="LOADING")
            all_.wait()
    finally:
        any_broker.options = options
