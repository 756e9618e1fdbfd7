"""Passwords appear nowhere: not in logs, errors, status keys, ids or process titles."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamseg.cli
from streamseg.errors import UsageError, mask_password
from streamseg.redis.publish import RedisOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import Backoff, resolve_sources
from tests.support.broker import running_broker, wait_for
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import ROOT
from tests.support.reading import worker_pids
from tests.support.runs import command, lines_in
from tests.support.servers import free_port, refusing_server, rtsp_server


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command line sends log lines to its own stderr, which ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


SECRET = "pa55"
"""Every password below has it in it."""


REFUSED = [
    "rtsp://viewer:pa55word@127.0.0.1:port/port",
    "rtsp://viewer:pa55word@127.0.0.1:99999/highport",
    "rtsp://viewer:pa55word",
    "rtsp://:pa55word@/nohost",
    "rtsp://view/er:pa55word@127.0.0.1/user",
    "rtsp://viewer:12/pa55word@127.0.0.1/two-hosts",
    "rtsp://viewer:word@10.0.0.1/pa55@127.0.0.1/two-hosts",
]
"""From these no host can be read, or more than one."""


def urls(closed: int, locked: int) -> list[str]:
    """Sources that cannot be read: nobody listens on one port, the other answers 401 to everything."""
    return [
        f"rtsp://viewer:pa55word@127.0.0.1:{closed}/refused",
        f"rtsp://viewer:pa55word@127.0.0.1:{locked}/locked",
        f"rtsp://viewer:pa55%40%2Fword@127.0.0.1:{locked}/escapes",
        f"rtsp://me@corp.example:pa55@word@127.0.0.1:{closed}/at",
        f"rtsp://viewer:pa55/w?o#rd@127.0.0.1:{closed}/slashes",
        "rtsp://viewer:pa55word@no-such-host.invalid/dns",
        f"rtsp://pa55token@127.0.0.1:{closed}/token",
        f"rtsp://127.0.0.1:{closed}/query?user=a&password=pa55word",
        f"rtsp://127.0.0.1:{closed}/user=admin_password=pa55word_channel=1.sdp",
        f"rtsps://viewer:pa55word@127.0.0.1:{locked}/tls",
        f"rtmp://127.0.0.1:{closed}/live?key=pa55word",
        f"http://viewer:pa55word@127.0.0.1:{locked}/locked.mp4",
        f"http://viewer:pa55word@127.0.0.1:{closed}/refused.mp4",
        f"https://viewer:pa55word@127.0.0.1:{locked}/tls.mp4",
        f"http://127.0.0.1:{closed}/a.mp4?token=pa55word",
        f"http://127.0.0.1:{locked}/a.m3u8?access_token=pa55word",
        "http://viewer:pa55word@no-such-host.invalid/a.mp4?sig=pa55word",
    ]


def test_sources_that_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Live ones are given up after a second attempt."""
    caplog.set_level(logging.DEBUG)
    with refusing_server("401 Unauthorized") as locked, running_broker(tmp_path / "redis") as broker:
        sources = resolve_sources(urls(free_port(), locked.port), reconnect_attempts=1)
        retry = Backoff(first=0.05, longest=0.05, refused=0.05)
        pipeline = Pipeline(sources, Moving(), [RedisOutput(broker.url)], backoff=retry)
        with pipeline:
            pipeline.join()
        with broker.client(decode_responses=True) as client:
            status = {key: client.hgetall(key) for key in client.keys("*:status")}
    assert len(pipeline.stats.errors) == len(status) == len(sources)
    assert all(state["error"] for state in status.values())
    out, err = capfd.readouterr()
    told = [*map(str, pipeline.stats.errors), caplog.text, out, err, str(status), str(sources)]
    assert not [text for text in told if SECRET in text]
    assert "401" in told[1], "the reason is told all the same"


@pytest.mark.parametrize("url", [*urls(1, 2), *REFUSED])
@pytest.mark.parametrize("text", ["{}", "cannot open '{}': refused", '["{}", 1]', "<{}>", "{}\n{}", "({})"])
def test_the_mask_in_any_text(url: str, text: str) -> None:
    assert SECRET not in mask_password(text.format(url, url))


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "gopher://viewer:pa55word@host/x"],
        ["run", "rtsp://viewer:pa55\nword@host/x"],
        *(["run", url] for url in REFUSED),
        ["run", "a.mp4", "--score", "rtsp://viewer:pa55word@host"],
        ["run", "--bogus=rtsp://viewer:pa55word@host"],
        ["run", "a.mp4", "--redis", "redis://viewer:pa55word"],
        ["run", "a.mp4", "--redis", "redis://:pa55word@host:port"],
        ["run", "a.mp4", "--set", "rtsp://viewer:pa55word@host"],
        ["run", "a.mp4", "--set", "outputs.0.url=redis://:pa55word@host"],
        ["run", "a.mp4", "--weights", "https://viewer:pa55word@host/w"],
        ["run", "a.mp4", "-o", "rtmp://viewer:pa55word@host/"],
        ["run", "a.mp4", "-o", "rtsp://viewer:pa55word@host:port/"],
        ["run", "a.mp4", "b.mp4", "-o", "rtsp://viewer:pa55word@host/"],
        ["run", "-c", "https://viewer:pa55word@host/c.yaml"],
        ["run", "*://viewer:pa55word@host"],
        ["subscribe", "http://viewer:pa55word@host"],
        ["subscribe", "redis://viewer:pa55word@host:99999"],
        ["subscribe", "redis://127.0.0.1", "rtsp://viewer:pa55word@host"],
        ["rtsp://viewer:pa55word@host"],
    ],
)
def test_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert streamseg.cli.main(arguments) == 2
    stderr = capsys.readouterr().err
    assert SECRET not in stderr
    (line,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    assert len(line) > 20


@pytest.mark.parametrize(
    "text",
    [
        'streams: [{url: "rtsp://viewer:pa55word@host/1}]',
        "streams: [{url: rtsp://viewer:pa55word@host/1, url2: x}]",
        "streams:\n  - url: 'rtsp://viewer:a password that does not end pa55word@host/1\n  x",
        "streams: {rtsp://viewer:pa55word@host/1: 1}",
        "outputs: [{type: redis, url: 'redis://:pa55word@h', maxlen: rtsp://viewer:pa55word@host}]",
        "model: *pa55word",
    ],
)
def test_broken_configurations(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert streamseg.cli.main(["run", "-c", str(path)]) == 2
    stderr = capsys.readouterr().err
    assert "run.yaml" in stderr
    assert SECRET not in stderr


def test_an_unforeseen_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("rtsp://viewer:pa55word@host broke")

    monkeypatch.setattr("streamseg.cli.run.parse_config", explode)
    assert streamseg.cli.main(["run", "a.mp4"]) == 1
    stderr = capsys.readouterr().err
    assert "RuntimeError: rtsp://viewer:***@host broke" in stderr


@pytest.mark.timeout(200)
def test_process_titles(tmp_path: Path) -> None:
    """With the password in a variable of the environment, as the pages recommend."""
    folder = tmp_path / "media"
    folder.mkdir()
    write_clip(folder / "cam.mp4", frames=50, width=96, height=64)
    results, config = tmp_path / "a.ndjson", tmp_path / "run.yaml"
    with rtsp_server(folder) as server:
        url = server.url("cam.mp4", user="viewer:${CAM_PASSWORD}")
        config.write_text(
            f"streams: [{{id: cam, url: '{url}'}}]\noutputs: [{{type: ndjson, path: {results}}}]"
        )
        environment = os.environ | {"CAM_PASSWORD": "pa55word"}
        with subprocess.Popen(
            command("-c", config), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                # While the program checks that it can write there, the file comes and goes.
                wait_for(lambda: lines_in(tmp_path), seconds=90, what="results")
                pids = [program.pid, *worker_pids(program.pid)]
                titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
            finally:
                program.kill()
    assert len(titles) == 2
    assert not [title for title in titles if SECRET.encode() in title]
    assert sys.executable.encode() in titles[1]


def test_ids_and_files_made_from_urls() -> None:
    for source in resolve_sources(urls(1, 2)):
        assert SECRET not in source.id
        assert SECRET not in source.shown
        assert SECRET not in repr(source)


def test_what_no_mask_could_cope_with_is_refused() -> None:
    with pytest.raises(UsageError, match="a URL has a space") as error:
        resolve_sources(["rtsp://viewer:my\npa55word@host/1"])
    assert SECRET not in str(error.value)
    (source,) = resolve_sources(["rtsp://viewer:my pa55word@host/1"])  # escaped from here on
    assert SECRET not in f"{source} {source.shown} {source.id}"
