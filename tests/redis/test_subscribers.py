"""Two pipelines, a broker, subscribers in two languages; broker and a subscriber are killed meanwhile."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.node import running_script
from tests.support.pages import ROOT
from tests.support.program import STREET, read_results
from tests.support.runs import started
from tests.support.servers import rtsp_server

_SYNC = """
import json, sys, msgspec
from streamseg.client import subscribe
url, start = sys.argv[1:]
subscription = subscribe(url, start=json.loads(start))
for result in subscription:
    line = {"result": msgspec.to_builtins(result), "positions": subscription.positions}
    print(json.dumps(line), flush=True)
"""
_ASYNC = """
import asyncio, json, sys, msgspec
from streamseg.client import asubscribe
async def main():
    async for result in asubscribe(sys.argv[1], ["lobby", "cam"], start="start"):
        print(json.dumps({"result": msgspec.to_builtins(result)}), flush=True)
asyncio.run(main())
"""
_FRAMES = 30


class Lines:
    """What a program prints, line by line, while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, list[str]()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.lines.append(line)

    def kill(self) -> list[str]:
        self.process.kill()
        self._thread.join()
        return self.lines


@contextlib.contextmanager
def python(code: str, *arguments: str) -> Iterator[Lines]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = Lines(process)
        try:
            yield lines
        finally:
            lines.kill()


def retained(broker: RunningBroker, stream: str) -> list[dict[str, Any]]:
    with broker.client() as client:
        entries: Any = client.xrange(f"streamseg:{{{stream}}}:results")
    return [json.loads(fields[b"result"]) for _, fields in entries]


def of(results: list[dict[str, Any]], stream: str) -> list[dict[str, Any]]:
    return [result for result in results if result["stream"] == stream]


@pytest.mark.timeout(300)
def test_every_subscriber_has_every_result_once_and_in_order(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    shutil.copy(STREET, media / "street.mp4")
    with (
        running_broker(tmp_path / "broker") as broker,
        rtsp_server(media) as camera,
        python(_ASYNC, broker.url) as second,
        running_script(
            (ROOT / "examples" / "subscribe.mjs").read_text(), tmp_path / "js", REDIS_URL=broker.url
        ) as node,
    ):
        third = Lines(node)
        with python(_SYNC, broker.url, '"start"') as first:
            files = ["--redis", broker.url, "--results", str(tmp_path / "{stream}.ndjson")]
            with (
                started(
                    *(str(STREET), "--end", str(_FRAMES / 10), "--set", "streams.0.id=lobby", *files),
                    seconds=0.15,
                ) as recorded,
                started(camera.url("street.mp4"), "--set", "streams.0.id=cam", *files, seconds=0.05) as live,
            ):
                for stream in ("lobby", "cam"):
                    wait_for(lambda s=stream: len(retained(broker, s)) >= 3, seconds=90, what=stream)  # type: ignore[misc]
                wait_for(lambda: len(first.lines) >= 3, what="the first subscriber")
                broker.kill()
                seen = [json.loads(line) for line in first.kill()]
                broker.start()
                before = len(retained(broker, "cam"))
                with python(_SYNC, broker.url, json.dumps(seen[-1]["positions"])) as again:
                    assert recorded.wait(timeout=120) == 0
                    wait_for(lambda: len(retained(broker, "cam")) >= before + 5, seconds=60, what="camera")
                    live.send_signal(signal.SIGINT)
                    assert live.wait(timeout=60) == 130
                    count = len(retained(broker, "cam")) + _FRAMES
                    wait_for(lambda: len(second.lines) >= count, what="all lines")
                    wait_for(lambda: len(seen) + len(again.lines) >= count, what="all lines")
                    seen += [json.loads(line) for line in again.kill()]
        expected = {stream: retained(broker, stream) for stream in ("lobby", "cam")}
        found = sum(len(result["instances"]) for result in expected["lobby"])
        wait_for(lambda: len(third.lines) >= found, what="all lines of node")
        third.kill()
    assert [result["frame"] for result in expected["lobby"]] == list(range(_FRAMES))
    for subscriber in ([line["result"] for line in seen], [json.loads(x)["result"] for x in second.lines]):
        for stream, results in expected.items():
            assert of(subscriber, stream) == results
            assert [masks(r) for r in of(subscriber, stream)] == masks_in(tmp_path / f"{stream}.ndjson")
    assert [areas(line) for line in third.lines] == [
        (result["frame"], instance["area"])
        for result in expected["lobby"]
        for instance in result["instances"]
    ]


def masks(result: dict[str, Any]) -> list[object]:
    return [result["frame"], *(instance["mask"] for instance in result["instances"])]


def masks_in(path: Path) -> list[list[object]]:
    return [masks(result) for result in read_results(path)]


def areas(line: str) -> tuple[int, int]:
    """Frame and pixels of a line that the example in JavaScript prints."""
    words = line.split()
    return int(words[0]), int(words[-1])
