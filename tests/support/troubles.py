"""What brokers answer in trouble, brought about for real, and how it is put right again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.support.broker import RunningBroker, wait_for
from tests.support.servers import free_port

Heal = Callable[[], object]


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
