"""Names that lead to another broker, certificates and passwords that change, servers that are no broker."""

from __future__ import annotations

import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamseg.client import subscribe
from streamseg.errors import UsageError
from streamseg.redis.publish import RedisOutput
from tests.support.broker import RunningBroker, running_broker, servers, wait_for
from tests.support.everybody import everybody
from tests.support.runs import published_frames
from tests.support.tls import forwarding, tls_proxy

# redis-py leaves the socket of a login that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

logger = logging.getLogger(__name__)


@pytest.mark.parametrize(("server", "way"), [*((server, "proxy") for server in servers()), ("valkey", "dns")])
def test_a_primary_that_is_demoted_is_left_for_the_new_one(
    tmp_path: Path, server: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Sentinel does it: a new one is promoted, the name changes, later the old one is demoted. What
    that one takes in between is discarded with it."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with (
        running_broker(tmp_path / "old", server=servers()[server], options=at_once) as old,
        running_broker(tmp_path / "new", server=servers()[server], options=at_once) as new,
        old.client() as to_old,
        new.client() as to_new,
    ):
        now = [old]
        lookup = socket.getaddrinfo

        def resolve(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
            """The broker's name leads to whichever broker is the primary."""
            if host in ("primary.example", b"primary.example"):
                host, port = "127.0.0.1", now[0].port
            return lookup(host, port, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        to_new.replicaof("127.0.0.1", old.port)
        wait_for(lambda: to_new.info("replication")["master_link_status"] == "up")  # type: ignore[index]
        with forwarding(lambda: now[0].port) as port:
            url = f"redis://127.0.0.1:{port}/0" if way == "proxy" else "redis://primary.example/0"
            with everybody(url) as all_:
                all_.publish(20)
                all_.wait()
                wait_for(lambda: len(published_frames(new, "cam")) == all_._next)
                to_new.replicaof("NO", "ONE")
                now[0] = new
                all_.publish(20)  # the connections that there are lead to the old one
                all_.wait()
                to_old.replicaof("127.0.0.1", new.port)
                demoted = time.monotonic()
                all_.publish(20)
                all_.wait()
                logger.info("healed after %.2f s", time.monotonic() - demoted)
                assert published_frames(new, "cam") == list(range(all_._next))


def test_an_expired_certificate_is_waited_for(broker: RunningBroker, tmp_path: Path) -> None:
    with tls_proxy(broker.port, tmp_path) as proxy, broker.client() as client:
        url = f"rediss://localhost:{proxy.port}/0?ssl_ca_certs={proxy.authority}"
        with everybody(url) as all_:
            proxy.renew(not_after=datetime.now(UTC) - timedelta(days=1))
            client.client_kill_filter(_type="normal", skipme=True)
            all_.publish(10)
            wait_for(lambda: "certificate has expired" in str(all_.output.trouble))
            assert "refuses us" in str(all_.output.trouble)
            proxy.renew()
            renewed = time.monotonic()
            all_.wait()
            logger.info("healed after %.2f s", time.monotonic() - renewed)
            proxy.renew(not_after=datetime.now(UTC) - timedelta(days=1))
            with pytest.raises(UsageError, match=r"refuses us: .*certificate has expired"):
                subscribe(url, ["cam"])


def test_a_password_in_a_file_is_read_with_every_connection(
    broker: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("pa55-one\n")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(file))
    monkeypatch.setenv("REDIS_USERNAME", "cam")
    with broker.client() as client:
        client.acl_setuser("cam", enabled=True, passwords=["+pa55-one"], keys=["*"], commands=["+@all"])
        with everybody(broker.url) as all_:
            client.acl_setuser("cam", enabled=True, passwords=["-pa55-one", "+pa55-two"])
            client.client_kill_filter(user="cam")
            all_.publish(10)
            wait_for(lambda: "refuses us (invalid username-password" in str(all_.output.trouble))
            file.unlink()
            wait_for(lambda: "cannot be logged in to (password file" in str(all_.output.trouble))
            file.write_text("pa55-two")
            all_.wait()
    assert "pa55" not in caplog.text


def test_a_password_that_changes_in_the_environment(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker.client() as client:
        client.config_set("requirepass", "first")
        monkeypatch.setenv("REDIS_PASSWORD", "first")
        with everybody(broker.url) as all_:
            client.config_set("requirepass", "second")
            client.client_kill_filter(_type="normal", skipme=True)
            all_.publish(10)
            wait_for(lambda: "refuses us" in str(all_.output.trouble))
            monkeypatch.setenv("REDIS_PASSWORD", "second")
            all_.wait()
        client.config_set("requirepass", "")


@pytest.mark.parametrize("case", ["missing", "empty", "twice"])
def test_a_password_file_that_is_of_no_use(tmp_path: Path, case: str) -> None:
    file = tmp_path / "password"
    if case != "missing":
        file.write_text("" if case == "empty" else "pa55word")
    url = f"redis://{':pa55word@' if case == 'twice' else ''}localhost/0"
    with pytest.raises(UsageError, match=f"{file}") as error:
        RedisOutput(url, password_file=str(file))
    assert "pa55" not in str(error.value)


@pytest.mark.parametrize("server", list(servers()))
def test_a_cluster_is_refused_before_the_start(tmp_path: Path, server: str) -> None:
    options = ("--cluster-enabled", "yes")
    with running_broker(tmp_path, options=options, server=servers()[server]) as broker:
        with broker.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        for start in (lambda: RedisOutput(broker.url).check(), lambda: subscribe(broker.url)):
            with pytest.raises(
                UsageError, match="is no broker for streamseg: it is a node of a Redis Cluster"
            ):
                start()
