"""What every server answers in trouble, for real: publisher and subscribers survive all of it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.broker import RunningBroker, running_broker, servers, wait_for
from tests.support.everybody import everybody
from tests.support.servers import free_port

# redis-py leaves the socket of a login that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

logger = logging.getLogger(__name__)

KEY = "streamseg:{cam}:results"
Heal = Callable[[], object]


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


def full_memory(broker: RunningBroker, client: Any) -> Heal:
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def demoted(broker: RunningBroker, client: Any) -> Heal:
    client.replicaof("127.0.0.1", free_port())
    return lambda: client.replicaof("NO", "ONE")


def stale_replica(broker: RunningBroker, client: Any) -> Heal:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", free_port())
    return lambda: client.replicaof("NO", "ONE")


def few_replicas(broker: RunningBroker, client: Any) -> Heal:
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


def failing_save(broker: RunningBroker, client: Any) -> Heal:
    """A folder is in the way of the file."""
    file = Path(client.config_get("dir")["dir"]) / "dump.rdb"
    file.unlink(missing_ok=True)
    file.mkdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def heal() -> None:
        file.rmdir()
        client.config_set("save", "")

    return heal


def busy_script(broker: RunningBroker, client: Any) -> Heal:
    def run_script() -> None:
        with broker.client() as other, contextlib.suppress(redis.RedisError):
            other.eval("while true do end", 0)

    client.config_set("lua-time-limit", 10)
    script = threading.Thread(target=run_script)
    script.start()

    def heal() -> None:
        with broker.client() as other:
            other.script_kill()
        script.join()

    return heal


def no_room(broker: RunningBroker, client: Any) -> Heal:
    client.config_set("maxclients", 1)
    client.client_kill_filter(_type="normal", skipme=True)
    return lambda: client.config_set("maxclients", 100)


def changed_password(broker: RunningBroker, client: Any) -> Heal:
    """It is asked for when they connect again."""
    client.config_set("requirepass", "new")
    client.client_kill_filter(_type="normal", skipme=True)
    return lambda: client.config_set("requirepass", "")


def user_off(broker: RunningBroker, client: Any) -> Heal:
    client.acl_setuser("default", enabled=False)
    client.client_kill_filter(_type="normal", skipme=True)
    return lambda: client.acl_setuser("default", enabled=True)


def right_taken_away(broker: RunningBroker, client: Any) -> Heal:
    commands = ("xadd", "xread", "xreadgroup", "smembers")
    client.execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in commands))
    return lambda: client.execute_command("ACL", "SETUSER", "default", "+@all")


TROUBLES = {
    full_memory: "cannot do its work (command not allowed when used memory",
    demoted: "cannot do its work (You can't write against a read only replica",
    stale_replica: "cannot do its work",
    few_replicas: "cannot do its work (NOREPLICAS",
    failing_save: "cannot do its work (MISCONF",
    busy_script: "cannot do its work (BUSY",
    no_room: "cannot do its work (max number of clients",
    changed_password: "refuses us",
    user_off: "refuses us",
    right_taken_away: "does not grant us a right",
}


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
