"""Workers that work files off, with real engines; their queue is in this process and can be away."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamseg.config import parse_config
from streamseg.runtime.build import build_sources
from streamseg.scale import file_engine, file_queue
from streamseg.scale.file_controller import FileController
from streamseg.scale.file_orders import FileOrders, QueueAwayError
from streamseg.scale.file_places import FOLDER
from streamseg.scale.file_queue import FileReport
from streamseg.scale.file_work import file_work_of
from streamseg.scale.file_worker import FileWorker
from tests.support.broker import wait_for
from tests.support.program import ROOT
from tests.support.runs import run_here, without_clock, write_clips

PATIENCE = 100.0
FRAMES = (40, 30, 20)
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines have the stand-in model."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support" / "stand_in"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "in", *FRAMES)


@pytest.fixture(scope="module")
def alone(clips: Path) -> Path:
    """Results of a run on one machine."""
    out = clips.parent / "out"
    out.mkdir()
    run_here(clips, results=out)
    return out


class Office:
    """A controller and its workers."""

    def __init__(self, sources: Path, out: Path, *, seconds: float = 0.0, **content: Any) -> None:
        config = parse_config(
            {
                "streams": [{"url": str(sources)}],
                "model": {"weights": str(seconds)},
                "outputs": [{"type": "ndjson", "path": f"{out}/"}],
                **content,
            },
            where="test",
        )
        self.out, self.saved = out, dict[str, bytes]()
        self.controller = self.begin_controller()
        self.away: set[str] = set()
        self.workers: dict[str, FileWorker] = {}
        self.turn = threading.Lock()
        assert self.controller.hand_over(file_work_of(config, build_sources(config))) == ""

    def begin_controller(self) -> FileController:
        return FileController(load=self.saved.get, save=self.saved.__setitem__)

    def add_worker(self, name: str) -> None:
        def ask(report: FileReport, version: int) -> FileOrders:
            if name in self.away:
                raise QueueAwayError("it is away")
            with self.turn:
                self.controller.attend()
            return self.controller.renew(report, version)

        self.workers[name] = FileWorker(name, device="cpu", place="here", ask=ask)
        self.workers[name].start()

    def engine(self, name: str) -> Any:
        wait_for(lambda: self.workers[name]._state.engine is not None, seconds=PATIENCE)
        engine = self.workers[name]._state.engine
        assert engine is not None
        return engine.process

    def held(self, name: str) -> dict[str, int]:
        """Results so far of what a worker has."""
        return {stream: held.results for stream, held in self.workers[name]._state.held.items()}

    def wait_for_end(self) -> dict[str, Any]:
        wait_for(lambda: self.controller.finishing, seconds=PATIENCE, what="the end")
        for worker in self.workers.values():
            worker.stop()
        self.controller.close()
        return self.controller.status()


@contextmanager
def office(sources: Path, out: Path, workers: str = "a", **options: Any) -> Iterator[Office]:
    found = Office(sources, out, **options)
    for name in workers:
        found.add_worker(name)
    try:
        yield found
    finally:
        for worker in found.workers.values():
            worker.stop()


def check_results(out: Path, alone: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir())
    for path in alone.iterdir():
        assert without_clock(out / path.name) == without_clock(path)


def test_files_outlive_the_engine_and_the_queue(
    clips: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_queue, "LEASE_SECONDS", 4.0)
    with office(clips, tmp_path / "out", seconds=0.02) as at_work:
        wait_for(lambda: at_work.held("a").get("c0", 0) >= 5, seconds=PATIENCE, what="results")
        os.kill(at_work.engine("a").pid, signal.SIGKILL)
        wait_for(lambda: at_work.controller.status()["workers"][0]["trouble"], seconds=PATIENCE)
        wait_for(lambda: any(at_work.held("a").values()), seconds=PATIENCE, what="another engine")
        at_work.controller = at_work.begin_controller()
        status = at_work.wait_for_end()
    assert (status["state"], status["done"], status["set_aside"]) == ("over", 3, 0)
    assert status["frames"] == sum(FRAMES)
    check_results(tmp_path / "out", alone)


def test_a_worker_that_was_stopped_does_not_commit_over_another(
    clips: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_queue, "LEASE_SECONDS", 2.0)
    out = tmp_path / "out"
    with office(clips / "c0.mp4", out, seconds=0.05) as at_work:
        wait_for(lambda: at_work.held("a").get("c0", 0) >= 5, seconds=PATIENCE, what="results")
        engine = at_work.engine("a")
        os.kill(engine.pid, signal.SIGSTOP)
        at_work.away.add("a")
        at_work.add_worker("b")
        wait_for((out / "c0.ndjson").exists, seconds=PATIENCE, what="what the other one has made")
        first = (out / "c0.ndjson").stat()
        written = next(path for path in (out / FOLDER).glob("*/c0.ndjson.partial"))
        os.kill(engine.pid, signal.SIGCONT)
        wait_for(lambda: not written.exists(), seconds=PATIENCE, what="the end of what it had")
        wait_for(lambda: not at_work.held("a"), seconds=PATIENCE)
        after = (out / "c0.ndjson").stat()
        assert (after.st_ino, after.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
        at_work.away.clear()
        status = at_work.wait_for_end()
    assert (status["done"], status["frames"]) == (1, FRAMES[0]), "counted once"
    assert without_clock(out / "c0.ndjson") == without_clock(alone / "c0.ndjson")


def test_a_bad_file_is_set_aside_and_an_engine_is_used_up(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_engine, "MOST_FILES", 3)
    folder = tmp_path / "in"
    folder.mkdir()
    for path in clips.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "bad.mp4").write_bytes(b"this is no video")
    with office(folder, tmp_path / "out") as at_work:
        status = at_work.wait_for_end()
        assert at_work.workers["a"]._engines > 1
    assert (status["state"], status["done"], status["set_aside"]) == ("over", 3, 1)
    (line,) = (tmp_path / "out" / "set-aside.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["stream"], told["source"]) == ("bad", str(folder / "bad.mp4"))
    assert "not a readable video" in told["reason"]


def test_what_no_engine_can_do_ends_the_work(clips: Path, tmp_path: Path) -> None:
    with office(clips, tmp_path / "out", overlay={"blur": ["unicorn"]}) as at_work:
        status = at_work.wait_for_end()
    assert (status["state"], status["exit_code"]) == ("failed", 2)
    assert "unicorn" in status["error"]


def test_a_folder_that_cannot_be_written_is_told_at_once(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with office(clips, tmp_path / "out", workers="") as at_work:
        status = at_work.wait_for_end()
    assert (status["state"], status["exit_code"]) == ("failed", 2)
    assert str(tmp_path / "out") in status["error"]
