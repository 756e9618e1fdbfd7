"""Cameras on a Ray cluster: nodes, the controller and the head come and go, a real broker has the results."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from streamseg.client import subscribe
from streamseg.config import parse_config
from streamseg.errors import UsageError
from streamseg.scale import ray_cluster
from streamseg.scale.assignment import SLACK
from streamseg.scale.work import work_of
from streamseg.types import FrameResult
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.media import write_clip
from tests.support.ray_cluster import RunningCluster, owners, running_cluster, until
from tests.support.runs import published
from tests.support.servers import rtsp_server

pytest.importorskip("ray")

PATIENCE = 120.0
CAMERAS_EACH = 4
"""Of an RTSP server: it plays to as many as the machine has cores, plus four."""


class Cameras:
    """Cameras, a broker for their results, and a subscriber who has seen them all."""

    def __init__(self, names: list[str], broker: RunningBroker, content: dict[str, Any]) -> None:
        self.names, self.broker, self.content = names, broker, content
        self.seen: list[FrameResult] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._subscribe)
        self._thread.start()

    def _subscribe(self) -> None:
        with subscribe(self.broker.url, self.names, start="start", timeout=0.5) as results:
            while not self._stop.is_set():
                if (result := next(results, None)) is not None:
                    self.seen.append(result)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def last(self, name: str) -> FrameResult | None:
        with self.broker.client() as client:
            newest: Any = client.xrevrange(f"streamseg:{{{name}}}:results", count=1)
        return msgspec.json.decode(newest[0][1][b"result"], type=FrameResult) if newest else None

    def frame(self, name: str) -> int:
        last = self.last(name)
        return -1 if last is None else last.frame

    def epoch(self, name: str) -> int:
        last = self.last(name)
        return -1 if last is None else last.epoch

    def wait_for_epochs(self, above: dict[str, int]) -> dict[str, float]:
        """Seconds until each of them is published with a higher epoch than that."""
        began, seconds = time.monotonic(), dict[str, float]()

        def all_published() -> bool:
            for name in above.keys() - seconds.keys():
                if self.epoch(name) > above[name]:
                    seconds[name] = round(time.monotonic() - began, 1)
            return len(seconds) == len(above)

        wait_for(all_published, seconds=PATIENCE, what=f"higher epochs than {above}")
        return seconds

    def wait_for_more(self, names: list[str], count: int) -> None:
        """So many more results of each."""
        before = {name: len(published(self.broker, name)) for name in names}
        wait_for(
            lambda: all(len(published(self.broker, name)) >= before[name] + count for name in names),
            seconds=PATIENCE,
            what=f"{count} more results of {names}",
        )

    def check_order(self) -> None:
        """Epochs and frames never go back, and none is there twice, as the subscriber saw them."""
        for name in self.names:
            numbers = [(result.epoch, result.frame) for result in self.seen if result.stream == name]
            assert numbers
            assert numbers == sorted(set(numbers)), name

    def lost(self, name: str, *, after: int = 0) -> float:
        """Part of the frames after that one that have no result."""
        frames = [r.frame for r in published(self.broker, name) if r.frame >= after]
        return 1 - len(frames) / (frames[-1] - frames[0] + 1)


@contextmanager
def cameras(folder: Path, count: int) -> Iterator[Cameras]:
    write_clip(folder / "clip.mp4", frames=100, width=96, height=64, fps=10, bframes=0, gop=10)
    names = [f"cam{k}" for k in range(count)]
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(folder / "broker"))
        servers = [stack.enter_context(rtsp_server(folder)) for _ in range(-(-count // CAMERAS_EACH))]
        streams = [
            {"id": name, "url": servers[k // CAMERAS_EACH].url("clip.mp4")} for k, name in enumerate(names)
        ]
        content = {
            "streams": streams,
            "model": {"weights": "0.001"},
            "outputs": [{"type": "redis", "url": broker.url, "maxlen": 1_000_000}],
        }
        found = Cameras(names, broker, content)
        stack.callback(found.close)
        yield found


def all_read(found: Cameras, workers: int) -> Any:
    """All cameras are read, by so many workers."""

    def holds(status: dict[str, Any]) -> bool:
        return len(owners(status)) == len(found.names) and len(set(owners(status).values())) == workers

    return holds


def loads(status: dict[str, Any]) -> list[tuple[int, float]]:
    """Cameras and capacity of each worker."""
    counts = Counter(owners(status).values())
    return [(counts[w["worker"]], w["capacity"]) for w in status["workers"] if w["worker"] in counts]


def hand_over(cluster: RunningCluster, found: Cameras, folder: Path) -> None:
    (folder / "cameras.yaml").write_text(yaml.safe_dump(found.content))
    done = cluster.run("run", "-c", folder / "cameras.yaml", "--ray", cluster.address)
    assert done.returncode == 0, done.stderr
    assert f"{len(found.names)} cameras are with the Ray cluster" in done.stderr


def hand_over_here(cluster: RunningCluster, found: Cameras) -> None:
    ray_cluster.hand_over(cluster.address, work_of(parse_config(found.content, where="test")))


def of_worker(found: Cameras, status: dict[str, Any], worker: str) -> dict[str, int]:
    """Its cameras, with the newest epoch of each."""
    return {name: found.epoch(name) for name, owner in owners(status).items() if owner == worker}


@pytest.mark.timeout(300)
def test_cameras_go_on_whatever_becomes_of_nodes_and_controller(tmp_path: Path) -> None:
    with running_cluster(2) as cluster, cameras(tmp_path, 3) as found:
        hand_over(cluster, found, tmp_path)
        before = until(all_read(found, 2), cluster)
        found.wait_for_more(found.names, 1)
        victim = owners(before)["cam0"]
        moving = of_worker(found, before, victim)
        others = {name: found.epoch(name) for name in found.names if name not in moving}
        cluster.kill_node(victim)
        found.wait_for_epochs(moving)
        cluster.kill_controller()
        found.wait_for_more(found.names, 20)
        assert {name: found.epoch(name) for name in others} == others, "the others were not disturbed"

        held = {name: found.epoch(name) for name in found.names}
        hand_over_here(cluster, found)  # a new controller finds out who has what
        until(all_read(found, 1), cluster)
        found.wait_for_more(found.names, 1)
        assert {name: found.epoch(name) for name in found.names} == held
        table = cluster.run("cluster", "status", "--address", cluster.address).stdout
        assert "3 cameras: 3 live; 1 of 1 workers ready" in table
        assert "cam0    live" in table

        stopped = cluster.run("cluster", "stop", "--address", cluster.address)
        assert stopped.returncode == 0, stopped.stderr
        with found.broker.client() as client:
            states = [client.hget(f"streamseg:{{{name}}}:status", "state") for name in found.names]
        assert states == [b"ended"] * 3
        found.check_order()
        with pytest.raises(UsageError, match="there is no controller on this cluster"):
            cluster.status()


class Told:
    """Figures of a soak test, for whoever runs it: they are printed, whatever pytest captures."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, text: str) -> None:
        with self._capsys.disabled():
            sys.stdout.write(f"\n{text} (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores)")
            sys.stdout.flush()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_node_is_removed(tmp_path: Path, tell: Told) -> None:
    with running_cluster(3) as cluster, cameras(tmp_path, 12) as found:
        hand_over_here(cluster, found)
        status = until(all_read(found, 3), cluster)
        found.wait_for_more(found.names, 20)
        victim = owners(status)["cam0"]
        moving = of_worker(found, status, victim)
        others = {name: found.epoch(name) for name in found.names if name not in moving}
        frames = {name: found.frame(name) for name in others}
        cluster.kill_node(victim)
        seconds = found.wait_for_epochs(moving)
        tell(f"a node removed: its {len(moving)} cameras published again after {seconds} s")
        found.wait_for_more(list(others), 300)  # of 30 s
        lost = {name: found.lost(name, after=frames[name]) for name in others}
        told = {name: f"{100 * part:.2f} %" for name, part in lost.items()}
        tell(f"the others lost, of at least 30 s from then on, {told}")
        assert {name: found.epoch(name) for name in others} == others
        found.check_order()
        assert max(seconds.values()) <= 15
        assert max(lost.values()) <= 0.01


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_node_is_added(tmp_path: Path, tell: Told) -> None:
    with running_cluster(2) as cluster, cameras(tmp_path, 8) as found:
        hand_over_here(cluster, found)
        until(all_read(found, 2), cluster)
        found.wait_for_more(found.names, 1)
        cluster.add_node()
        status = until(all_read(found, 3), cluster)
        tell(f"a node added: cameras and capacity of each worker {loads(status)}")
        rate = 8 / sum(capacity for _, capacity in loads(status))
        for count, capacity in loads(status):
            assert math.floor((1 - SLACK) * capacity * rate) <= count
            assert count <= math.ceil((1 + SLACK) * capacity * rate)
        found.wait_for_more(found.names, 20)
        found.check_order()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_node_is_stopped_and_continued(tmp_path: Path, tell: Told) -> None:
    with running_cluster(2) as cluster, cameras(tmp_path, 4) as found:
        hand_over_here(cluster, found)
        status = until(all_read(found, 2), cluster)
        found.wait_for_more(found.names, 1)
        victim = owners(status)["cam0"]
        moving = of_worker(found, status, victim)
        cluster.signal_node(victim, signal.SIGSTOP)
        began = time.monotonic()
        seconds = found.wait_for_epochs(moving)
        tell(f"a node stopped: its {len(moving)} cameras published again after {seconds} s")
        owned = {name: found.epoch(name) for name in moving}
        time.sleep(
            max(0.0, began + 30 - time.monotonic())
        )  # longer than any lease, and than Ray waits for a node
        cluster.signal_node(victim, signal.SIGCONT)
        found.wait_for_more(found.names, 100)
        assert all(found.epoch(name) >= epoch for name, epoch in owned.items())
        found.check_order()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_cameras_go_on_without_the_head(tmp_path: Path) -> None:
    with running_cluster(2) as cluster, cameras(tmp_path, 4) as found:
        hand_over_here(cluster, found)
        until(all_read(found, 2), cluster)
        found.wait_for_more(found.names, 1)
        epochs = {name: found.epoch(name) for name in found.names}
        cluster.kill_head()
        found.wait_for_more(found.names, 250)  # 25 s of video
        assert {name: found.epoch(name) for name in found.names} == epochs
        found.check_order()
