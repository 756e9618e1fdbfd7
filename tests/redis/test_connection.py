"""Errors that a broker really gives: which ones pass, which ones end it; and the waits between attempts."""

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from streamseg.redis.connection import connect
from streamseg.redis.trouble import delays, passes, reason, refuses
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.servers import free_port

_SNAPSHOTS = ("--appendonly", "no", "--save", "3600 1")
_FOR_EVER = "while true do end"


def error_of(action: Callable[[], object]) -> redis.RedisError:
    with pytest.raises(redis.RedisError) as raised:
        action()
    return raised.value


def add(client: redis.Redis) -> object:
    return client.xadd("streamseg:{cam}:results", {"result": b"{}"})


def assert_passes(error: redis.RedisError, word: str) -> None:
    assert word in f"{error} {error.status_code}"
    assert passes(error)
    assert not refuses(error)


def test_nobody_is_there() -> None:
    with connect(f"redis://127.0.0.1:{free_port()}") as client:
        assert_passes(error_of(client.ping), "refused")


def test_a_broker_that_hangs(shared_broker: RunningBroker) -> None:
    with shared_broker.client() as other, connect(shared_broker.url, timeout=0.1) as client:
        other.client_pause(500)
        error = error_of(lambda: add(client))
        assert isinstance(error, redis.TimeoutError)
        assert passes(error)
        other.client_unpause()


def test_no_memory(broker: RunningBroker) -> None:
    with broker.client() as other, connect(broker.url) as client:
        other.config_set("maxmemory", 1)
        assert_passes(error_of(lambda: add(client)), "OOM")
        other.config_set("maxmemory", 0)
        add(client)


def test_a_replica(broker: RunningBroker) -> None:
    with broker.client() as other, connect(broker.url) as client:
        other.replicaof("127.0.0.1", free_port())
        assert_passes(error_of(lambda: add(client)), "READONLY")
        other.config_set("replica-serve-stale-data", "no")
        assert_passes(error_of(lambda: client.xlen("streamseg:{cam}:results")), "MASTERDOWN")
        other.config_set("replica-serve-stale-data", "yes")
        other.replicaof("NO", "ONE")


def test_too_few_replicas(broker: RunningBroker) -> None:
    with broker.client() as other, connect(broker.url) as client:
        other.config_set("min-replicas-to-write", 1)
        assert_passes(error_of(lambda: add(client)), "NOREPLICAS")
        other.config_set("min-replicas-to-write", 0)


def test_a_long_script(broker: RunningBroker) -> None:
    def run_script() -> None:
        with broker.client() as other, pytest.raises(redis.ResponseError):
            other.eval(_FOR_EVER, 0)

    with broker.client() as other, connect(broker.url) as client:
        other.config_set("busy-reply-threshold", 10)
        script = threading.Thread(target=run_script)
        script.start()
        errors: list[redis.RedisError] = []

        def is_busy() -> bool:
            try:
                client.ping()
            except redis.RedisError as error:
                errors.append(error)
            return bool(errors)

        wait_for(is_busy)
        other.script_kill()
        script.join()
    assert_passes(errors[0], "BUSY")


def test_unblocked(broker: RunningBroker) -> None:
    errors: list[redis.RedisError] = []
    with broker.client() as other, connect(broker.url) as client:

        def read() -> None:
            errors.append(error_of(lambda: client.xread({"streamseg:{cam}:results": "$"}, block=20_000)))

        number = client.client_id()
        reader = threading.Thread(target=read)
        reader.start()
        wait_for(lambda: int(other.info("clients")["blocked_clients"]) == 1)  # type: ignore[index]
        other.client_unblock(number, error=True)
        reader.join()
    assert_passes(errors[0], "UNBLOCKED")


def test_a_full_disk(tmp_path: Path) -> None:
    """A snapshot fails: its folder is gone."""

    def failed(persistence: Any) -> bool:
        return bool(persistence["rdb_last_bgsave_status"] == "err")

    folder = tmp_path / "broker"
    with running_broker(folder, options=_SNAPSHOTS) as broker:
        with broker.client() as other, connect(broker.url) as client:
            add(client)
            folder.rmdir()
            other.bgsave()
            wait_for(lambda: failed(other.info("persistence")))
            assert_passes(error_of(lambda: add(client)), "MISCONF")
        folder.mkdir()


def test_a_broker_that_loads_its_data(tmp_path: Path) -> None:
    slowly = ("--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024")  # 50 ms a key
    errors: list[redis.RedisError] = []

    def loads() -> bool:
        try:
            client.get("key 0")
        except redis.BusyLoadingError as error:
            errors.append(error)
        except redis.ConnectionError:
            pass  # it does not listen yet
        return bool(errors)

    with running_broker(tmp_path, options=_SNAPSHOTS) as broker, connect(broker.url) as client:
        for i in range(40):
            client.set(f"key {i}", os.urandom(2000))
        client.save()
        broker.kill()
        broker.options = (*_SNAPSHOTS, *slowly)
        broker.start(wait=False)
        wait_for(loads)
    assert_passes(errors[0], "LOADING")


def test_a_cluster_without_all_its_slots(tmp_path: Path) -> None:
    with (
        running_broker(tmp_path, options=("--cluster-enabled", "yes")) as broker,
        broker.client() as client,
    ):
        assert_passes(error_of(lambda: add(client)), "CLUSTERDOWN")


def test_an_answer_in_the_middle_of_resharding() -> None:
    """It takes a cluster of two to have one."""
    assert_passes(
        redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"), "Multiple"
    )


def test_too_many_clients(broker: RunningBroker) -> None:
    with broker.client() as other, connect(broker.url) as client:
        other.config_set("maxclients", 1)
        assert_passes(error_of(client.ping), "max number of clients")
        other.config_set("maxclients", 100)


def test_a_wrong_password_or_user(broker: RunningBroker) -> None:
    with broker.client() as other:
        other.acl_setuser("eve", enabled=True, passwords=["+pw"], commands=["+@all"])
    for user in ("eve:wrong", "nobody:pw"):
        with connect(broker.url.replace("//", f"//{user}@")) as client:
            error = error_of(client.ping)
        assert not passes(error)
        assert refuses(error)


def test_no_password(tmp_path: Path) -> None:
    with (
        running_broker(tmp_path, options=("--requirepass", "right")) as broker,
        connect(broker.url) as client,
    ):
        error = error_of(client.ping)
    assert not passes(error)
    assert refuses(error)


def test_a_wrong_database(broker: RunningBroker) -> None:
    with connect(broker.url.removesuffix("0") + "99") as client:
        error = error_of(client.ping)
    assert not passes(error)
    assert refuses(error)


def test_what_a_user_may_not_do(broker: RunningBroker) -> None:
    with broker.client() as other:
        other.acl_setuser("eve", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
    with connect(broker.url.replace("//", "//eve:pw@")) as client:
        error = error_of(lambda: add(client))
    assert isinstance(error, redis.exceptions.NoPermissionError)
    assert not passes(error)
    assert not refuses(error)


def test_a_key_of_another_type(broker: RunningBroker) -> None:
    with connect(broker.url) as client:
        client.set("streamseg:{cam}:results", "no stream")
        error = error_of(lambda: add(client))
    assert "WRONGTYPE" in str(error)
    assert not passes(error)
    assert not refuses(error)


def test_a_group_that_exists_is_no_busy_broker(broker: RunningBroker) -> None:
    with connect(broker.url) as client:
        client.xgroup_create("streamseg:{cam}:results", "g", mkstream=True)
        assert not passes(error_of(lambda: client.xgroup_create("streamseg:{cam}:results", "g")))


def test_texts_of_errors_are_one_line_without_passwords() -> None:
    assert reason(redis.ConnectionError("a\nb redis://u:pw@h/0")) == "a b redis://u:***@h/0"
    assert reason(redis.TimeoutError()) == "TimeoutError"


def test_waits_grow_to_a_bound_and_never_end() -> None:
    first: list[Any] = list(itertools.islice(delays(), 2000))
    assert first[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert set(first[7:]) == {5.0}
