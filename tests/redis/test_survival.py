"""What every server answers in trouble, for real: publisher and subscribers survive all of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import RunningBroker, running_broker, servers, wait_for
from tests.support.everybody import everybody
from tests.support.troubles import TROUBLES

# redis-py leaves the socket of a login that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

logger = logging.getLogger(__name__)

KEY = "streamseg:{cam}:results"


@pytest.fixture(scope="module", params=list(servers()))
def each_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    options = ("--appendonly", "no")  # else it is its log that fails
    folder = tmp_path_factory.mktemp("broker")
    with running_broker(folder, server=servers()[request.param], options=options) as running:
        yield running


@pytest.fixture
def broker(each_server: RunningBroker) -> RunningBroker:
    each_server.clean()
    return each_server


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_all_of_them_wait_for_a_broker_in_trouble(broker: RunningBroker, trouble: Any) -> None:
    """It lasts until the publisher has noticed; then nothing is missing, and nothing twice."""
    with everybody(broker.url) as all_, broker.client(decode_responses=True) as client:
        heal = trouble(broker, client)
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
def test_a_stream_that_goes_while_they_wait_for_it(broker: RunningBroker, how: str) -> None:
    with everybody(broker.url) as all_, broker.client() as client:
        wait_for(lambda: int(client.info("clients")["blocked_clients"]) >= 3)  # type: ignore[index]
        if how == "group destroyed":
            client.xtrim(KEY, maxlen=0, approximate=False)  # else it would begin anew with what is there
            client.xgroup_destroy(KEY, "g")
        else:
            client.delete(KEY) if how == "deleted" else client.flushall()
        all_.publish(20)
        all_.wait()


def test_a_broker_that_loads_a_large_file(broker: RunningBroker, tmp_path: Path) -> None:
    slowly = ("--key-load-delay", "50000")  # microseconds a key
    options = broker.options
    try:
        with everybody(broker.url) as all_, broker.client() as client:
            for i in range(30):
                client.set(f"key {i}", os.urandom(300_000))
            client.save()
            broker.kill()
            broker.options = (*options, *slowly)
            broker.start(wait=False)
            all_.publish(20)
            wait_for(lambda: "is loading" in str(all_.output.trouble), what="LOADING")
            all_.wait()
    finally:
        broker.options = options
