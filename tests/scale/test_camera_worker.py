"""A worker of a cluster with a real engine, camera and broker; its controller is in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest

from streamseg.config import parse_config
from streamseg.redis.owner import claim_epoch
from streamseg.scale.camera_worker import CameraWorker
from streamseg.scale.controller import Controller
from streamseg.scale.orders import ControllerAwayError, Orders
from streamseg.scale.roster import Report
from streamseg.scale.work import work_of
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.media import write_clip
from tests.support.program import ROOT
from tests.support.runs import published
from tests.support.servers import RtspServer, rtsp_server

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines have the stand-in model."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support" / "stand_in"))


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", frames=100, width=96, height=64, bframes=0, gop=10)
    with rtsp_server(folder) as server:
        yield server


class Office:
    """A controller and its worker."""

    def __init__(self, camera: RtspServer, outputs: list[dict[str, Any]]) -> None:
        config = parse_config(
            {
                "streams": [{"id": "cam", "url": camera.url("clip.mp4")}],
                "model": {"weights": "0.001"},
                "outputs": outputs,
                "metrics": {"enabled": True},
            },
            where="test",
        )
        self.saved = b""
        self.controller = Controller(saved=None, save=self._save)
        self.controller.hand_over(work_of(config))
        self.away = False
        self.reports: list[Report] = []
        self.worker = CameraWorker("w", device="cpu", place="here", ask=self._ask)

    def _save(self, saved: bytes) -> None:
        self.saved = saved

    def _ask(self, report: Report, version: int) -> Orders:
        if self.away:
            raise ControllerAwayError("it was removed")
        self.reports.append(report)
        return self.controller.renew(report, version)

    @property
    def last(self) -> Report:
        return self.reports[-1] if self.reports else Report("none")

    def engine(self) -> Any:
        engine = self.worker._has.engine
        assert engine is not None
        return engine.process

    def __enter__(self) -> Office:
        self.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop()


def epochs(broker: RunningBroker) -> list[int]:
    return [result.epoch for result in published(broker, "cam")]


def check_order(broker: RunningBroker) -> None:
    numbers = [(result.epoch, result.frame) for result in published(broker, "cam")]
    assert numbers == sorted(set(numbers))


def test_a_camera_outlives_the_controller_and_the_engine(camera: RtspServer, broker: RunningBroker) -> None:
    with Office(camera, [{"type": "redis", "url": broker.url}]) as office:
        office.worker._lease = 0.5
        wait_for(lambda: epochs(broker), seconds=PATIENCE)
        wait_for(lambda: office.last.held == {"cam": 0})
        assert office.last.capacity is not None
        with urlopen(f"{office.last.metrics}metrics", timeout=10) as page:
            assert 'streamseg_frames_total{stream="cam"}' in page.read().decode()
        office.away = True  # Redis decides who owns the camera: it goes on without a controller
        count = len(epochs(broker))
        wait_for(lambda: len(epochs(broker)) > count + 50, seconds=PATIENCE)  # two seconds of video
        assert set(epochs(broker)) == {0}
        office.away = False
        os.kill(office.engine().pid, signal.SIGKILL)
        wait_for(lambda: "SIGKILL" in office.last.trouble, seconds=PATIENCE)
        wait_for(lambda: epochs(broker)[-1] == 1, seconds=PATIENCE)
        wait_for(lambda: office.last.states == {"cam": "live"} and not office.last.trouble)
        check_order(broker)
    with broker.client() as client:
        wait_for(lambda: client.hget("streamseg:{cam}:status", "state") == b"ended")


def test_an_engine_that_hangs_is_replaced(camera: RtspServer, broker: RunningBroker) -> None:
    with Office(camera, [{"type": "redis", "url": broker.url}]) as office:
        wait_for(lambda: epochs(broker), seconds=PATIENCE)
        office.worker._silent = 1.0
        os.kill(office.engine().pid, signal.SIGSTOP)
        wait_for(lambda: "said nothing for 1 s" in office.last.trouble, seconds=PATIENCE)
        office.worker._silent = 60.0
        wait_for(lambda: epochs(broker)[-1] == 1, seconds=PATIENCE)
        check_order(broker)


def test_without_redis_cameras_end_with_the_lease(camera: RtspServer, tmp_path: Path) -> None:
    with Office(camera, [{"type": "ndjson", "path": str(tmp_path / "out/")}]) as office:
        office.worker._lease = 2.0
        wait_for(lambda: office.last.states == {"cam": "live"}, seconds=PATIENCE)
        office.away = True
        pid = office.engine().pid
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), seconds=PATIENCE)
        wait_for(lambda: not office.worker._has.cameras)
        office.reports.clear()
        office.away = False
        wait_for(lambda: office.last.held, seconds=PATIENCE)
        assert office.last.held["cam"] >= 100, "above all that the former owner may have opened meanwhile"


def test_other_settings_and_other_owners(camera: RtspServer, broker: RunningBroker) -> None:
    with Office(camera, [{"type": "redis", "url": broker.url}]) as office:
        wait_for(lambda: epochs(broker), seconds=PATIENCE)
        work = office.controller._state.work  # type: ignore[union-attr]
        changed = {"cam": work.streams["cam"] | {"stalled_after": 60.0}}
        pid = office.engine().pid
        office.controller.hand_over(msgspec.structs.replace(work, streams=changed))
        wait_for(lambda: epochs(broker)[-1] == 1, seconds=PATIENCE)  # as after a reconnect
        with broker.client() as client:
            assert claim_epoch(client, "cam") == 2
        wait_for(lambda: office.last.held == {}, seconds=PATIENCE)
        assert set(epochs(broker)) == {0, 1}
        wait_for(lambda: epochs(broker)[-1] == 3, seconds=PATIENCE)  # the controller says it is ours
        assert office.engine().pid == pid
        check_order(broker)


def test_nothing_begins_that_cannot_be_claimed(camera: RtspServer, tmp_path: Path) -> None:
    with (
        running_broker(tmp_path / "broker", start=False) as broker,
        Office(camera, [{"type": "redis", "url": broker.url}]) as office,
    ):
        wait_for(lambda: "cannot be reached" in office.last.trouble, seconds=PATIENCE)
        assert office.last.held == {}
        broker.start()
        wait_for(lambda: epochs(broker), seconds=PATIENCE)
        wait_for(lambda: not office.last.trouble)


def test_an_engine_that_cannot_begin_says_why(camera: RtspServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outputs = [{"type": "ndjson", "path": str(tmp_path / "out/")}]
    with Office(camera, outputs) as office:
        work = office.controller._state.work  # type: ignore[union-attr]
        overlay = work.config["overlay"] | {"blur": ["unicorn"]}
        office.controller.hand_over(msgspec.structs.replace(work, config=work.config | {"overlay": overlay}))
        wait_for(lambda: "unicorn" in office.last.trouble, seconds=PATIENCE)
