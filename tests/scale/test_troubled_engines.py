"""Engines that die again and again, or all at once, or say nothing for a while."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from streamseg.errors import RunError
from streamseg.scale import handle
from streamseg.sources import source_for
from tests.support.broker import RunningBroker, wait_for
from tests.support.engine_pool import RunningPool, running_pool, seen
from tests.support.media import write_clip
from tests.support.reading import is_running
from tests.support.servers import rtsp_server

PATIENCE = 100.0
"""Seconds; much more than anything takes."""
FIRST_DELAY = 0.2
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a camera that every stream may show."""
    media = tmp_path_factory.mktemp("media")
    write_clip(media / "cam.mp4", frames=100, width=96, height=64, bframes=0, gop=10)
    with rtsp_server(media) as server:
        yield server.url("cam.mp4")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_FIRST_DELAY", FIRST_DELAY)


def wait_until(condition: Callable[[], object]) -> None:
    wait_for(condition, seconds=PATIENCE)


def kill(running: RunningPool, number: int, how: signal.Signals = signal.SIGKILL) -> None:
    pid = running.handles[number].pid
    assert pid is not None
    os.kill(pid, how)


def kill_until_given_up(running: RunningPool, number: int) -> list[float]:
    """Kill each of its processes; when each of them had started, in seconds."""
    killed: dict[int, float] = {}
    engine = running.handles[number]

    def given_up() -> bool:
        if (pid := engine.pid) is not None and pid not in killed:
            killed[pid] = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return engine.given_up

    wait_until(given_up)
    return list(killed.values())


def test_it_is_told_when_no_engine_works_and_when_one_is_given_up(
    camera: str, broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    redis = {"type": "redis", "url": broker.url}
    with running_pool({"a": camera, "b": camera}, [redis]) as running:
        wait_until(lambda: running.states() == {"a": "live", "b": "live"})
        wait_until(lambda: running.probe("readyz") == running.probe("healthz") == (200, "ok"))
        check_all_dead(running)
        wait_until(lambda: running.states() == {"a": "live", "b": "live"})
        wait_until(lambda: running.samples("streamseg_stream_up", "stream") == {"a": 1, "b": 1})
        assert running.probe("readyz") == running.probe("healthz") == (200, "ok"), "it comes back"
        check_given_up(running, caplog)
        wait_until(lambda: running.states() == {"a": "live", "b": "live"})
        before = {name: len(seen(broker, name)) for name in "ab"}
        wait_until(lambda: all(len(seen(broker, name)) > before[name] + 10 for name in "ab"))
        assert running.probe("readyz") == running.probe("healthz") == (200, "ok"), "one engine works"
        kill_until_given_up(running, 1)
        running.pool.join()
        with pytest.raises(RunError, match=r"every engine was given up; engine 1 \(cpu\) was killed by SIG"):
            running.pool.raise_first_error()
    assert running.pool.stats.notes[0] == "engine 0 (cpu) died 5 times, at last it was killed by SIGKILL"
    assert all(len(seen(broker, name)) for name in "ab")


def check_all_dead(running: RunningPool) -> None:
    """Both die at once: until one of them is back, nothing works, and all places say so."""
    for number in (0, 1):
        kill(running, number)
    wait_until(lambda: running.probe("healthz")[1].count("SIGKILL") == 2)
    status, text = running.probe("readyz")
    assert status == 503
    assert text.startswith("no engine works: engine 0 (cpu) was killed by SIGKILL; engine 1 (cpu) was")
    assert running.samples("streamseg_stream_up", "stream") == {"a": 0, "b": 0}
    assert running.samples("streamseg_engine_up", "engine") == {"0": 0, "1": 0}
    assert running.states() == {"a": "stalled", "b": "stalled"}


def check_given_up(running: RunningPool, caplog: pytest.LogCaptureFixture) -> None:
    """One more process after each death, later and later; after the fifth none."""
    deaths = running.handles[0].deaths
    started = kill_until_given_up(running, 0)
    assert len(started) == handle.MOST_DEATHS - deaths
    for number, (one, next_one) in enumerate(itertools.pairwise(started), deaths):
        assert next_one - one >= FIRST_DELAY * 2**number
    assert running.samples("streamseg_engine_deaths_total", "engine")["0"] == handle.MOST_DEATHS
    assert running.samples("streamseg_engine_up", "engine") == {"0": 0, "1": 1}
    wait_until(lambda: "engine 0 (cpu) was killed by SIGKILL; it is given up after 5 deaths" in caplog.text)
    assert "engine 0 (cpu) was killed by SIGKILL; it starts again in " in caplog.text


def test_an_engine_that_says_nothing_is_not_counted_upon_and_after_a_while_ended(
    camera: str, broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "QUIET_SECONDS", 2.0)
    redis = {"type": "redis", "url": broker.url}
    with running_pool({"c": camera, "d": camera, "e": camera}, [redis]) as running:
        wait_until(lambda: set(running.states().values()) == {"live"})
        held = set(running.handles[0].handed)
        kill(running, 0, signal.SIGSTOP)
        wait_until(lambda: {name for name, state in running.states().items() if state == "stalled"} == held)
        up = running.samples("streamseg_stream_up", "stream")
        assert {name for name, value in up.items() if not value} == held
        assert running.samples("streamseg_engine_up", "engine") == {"0": 0, "1": 1}
        assert running.probe("readyz") == running.probe("healthz") == (200, "ok"), "the other one works"
        kill(running, 0, signal.SIGCONT)
        wait_until(lambda: set(running.states().values()) == {"live"})
        assert {result.epoch for name in "cde" for result in seen(broker, name)} == {0}, "nothing has moved"
        monkeypatch.setattr(handle, "SILENT_SECONDS", 3.0)
        check_ended(running, broker, held)


def check_ended(running: RunningPool, broker: RunningBroker, held: set[str]) -> None:
    pid = running.handles[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: running.handles[0].deaths)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    for name in held:
        wait_until(lambda n=name: len([r for r in seen(broker, n) if r.epoch == 1]) > 5)
        assert running.pool.stats.streams[name].reconnects == 0, "the camera was there all the time"
    others = {result.epoch for name in set("cde") - held for result in seen(broker, name)}
    assert others == {0}, "they have the connection that they had"
    assert running.handles[0].fate == "said nothing for 3 s and was killed"


@pytest.mark.soak
def test_streams_come_and_go_and_the_run_is_stopped_while_an_engine_is_started(
    camera: str, broker: RunningBroker
) -> None:
    redis = {"type": "redis", "url": broker.url}
    with running_pool({"f": camera, "g": camera}, [redis]) as running:
        wait_until(lambda: set(running.states().values()) == {"live"})
        kill_and_wait_for_the_next(running)
        running.pool.remove("f")
        assert running.pool.add(source_for(camera, stream_id="h", stalled_after=60))
        wait_until(lambda: running.states() == {"f": "ended", "g": "live", "h": "live"})
        kill_and_wait_for_the_next(running)
        pids = [handle.pid for handle in running.handles]
        running.pool.stop()
        running.pool.join()
    running.pool.raise_first_error()
    stats = running.pool.stats
    assert not stats.errors
    assert {name: stream.state.value for name, stream in stats.streams.items()} == dict.fromkeys(
        "fgh", "ended"
    )
    assert not any(is_running(pid) for pid in pids if pid is not None)
    assert all(len(seen(broker, name)) for name in "fgh")


def kill_and_wait_for_the_next(running: RunningPool) -> None:
    """Kill the engine with most streams; its next process is still starting."""
    engine = max(running.handles, key=lambda one: len(one.handed))
    deaths = engine.deaths
    kill(running, engine.number)
    wait_until(lambda: engine.deaths > deaths and engine.running)
    assert engine.ready is None
