"""Several engines under one parent: what a second one adds, and what the death of one costs.

    python benchmarks/engines.py [--rounds 3]

The model only sleeps, 20 ms a picture, so that the numbers are the program's own. Throughput: two recordings
to NDJSON with one engine and with two, by turns; frames per second while both are read. Deaths: four RTSP
cameras of 25 frames/s to a real broker, and one of two engines killed with SIGKILL. As a subscriber sees it:
seconds from the kill to the first result of each camera that was lost, and the frame numbers that are
missing of the other engine's cameras, before the kill and after it. Takes two minutes on two cores that
have nothing else to do. Needs the extra `test`. Writes benchmarks/results/engines.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.types import FrameResult  # noqa: E402
from tests.support.broker import RunningBroker, running_broker, wait_for  # noqa: E402
from tests.support.engine_pool import running_pool, seen  # noqa: E402
from tests.support.engines import engines  # noqa: E402
from tests.support.media import write_clip  # noqa: E402
from tests.support.program import read_results  # noqa: E402
from tests.support.servers import rtsp_server  # noqa: E402

SLEEP = 0.02
"""Seconds for each picture."""
FRAMES = 300
"""Of each recording."""
CAMERA_SLEEP = 0.005
"""Four cameras of 25 frames/s on the engine that is left take half of its time."""
QUIET, LONGEST = 4.0, 60.0
"""Seconds that are looked at before the kill and after the return; the longest wait for anything."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "engines.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        throughput = compare_throughput(Path(name), chosen.rounds)
        deaths = measure_deaths(Path(name), chosen.rounds)
    report = {"machine": describe_machine(), "frames_per_second": throughput, "death_of_an_engine": deaths}
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def compare_throughput(folder: Path, rounds: int) -> dict[str, float]:
    clips = [folder / f"c{number}.mp4" for number in (0, 1)]
    for clip in clips:
        write_clip(clip, frames=FRAMES, width=96, height=64)
    turns = [
        [throughput(clips, folder / "out", devices) for devices in ("cpu", "cpu,cpu")] for _ in range(rounds)
    ]
    ratios = [two / one for one, two in turns]
    return {
        "at most with one engine": 1 / SLEEP,
        "one engine": round(statistics.median(one for one, _ in turns), 1),
        "two engines": round(statistics.median(two for _, two in turns), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_least": round(min(ratios), 2),
        "ratio_most": round(max(ratios), 2),
    }


def throughput(clips: Sequence[Path], out: Path, devices: str) -> float:
    """Results per second from when both recordings have one to when the first of them has all."""
    with engines(*clips, "--results", f"{out}/", devices=devices, seconds=SLEEP) as program:
        _, said = program.communicate()
    assert program.returncode == 0, said
    times = [
        [result["time"] + result["latency_ms"] / 1000 for result in read_results(out / f"{clip.stem}.ndjson")]
        for clip in clips
    ]
    begin, end = max(one[0] for one in times), min(one[-1] for one in times)
    return sum(1 for one in times for moment in one if begin <= moment <= end) / (end - begin)


def measure_deaths(folder: Path, rounds: int) -> dict[str, object]:
    media = folder / "media"
    media.mkdir()
    write_clip(media / "cam.mp4", frames=250, width=96, height=64, bframes=0, gop=25)
    with rtsp_server(media) as server, running_broker(folder / "broker") as broker:
        found = [death(server.url("cam.mp4"), broker) for _ in range(rounds)]
    seconds = [second for one in found for second in one.seconds]
    return {
        "cameras_lost": len(seconds),
        "seconds_until_published_again": {
            "median": round(statistics.median(seconds), 2),
            "least": round(min(seconds), 2),
            "most": round(max(seconds), 2),
        },
        "other_cameras": sum(one.others for one in found),
        "frames_of_others": sum(one.frames for one in found),
        "frames_missing_of_others_before": sum(one.before for one in found),
        "frames_missing_of_others_after": sum(one.after for one in found),
    }


class Death:
    """What subscribers saw of it."""

    def __init__(self, results: dict[str, list[FrameResult]], lost: set[str], killed: float) -> None:
        self.seconds = [
            next(published(r) for r in results[name] if r.epoch) - killed for name in sorted(lost)
        ]
        others = [results[name] for name in results.keys() - lost]
        self.others = len(others)
        self.frames = sum(map(len, others))
        self.before = sum(missing([r for r in one if killed - QUIET <= r.time < killed]) for one in others)
        self.after = sum(missing([r for r in one if r.time >= killed]) for one in others)


def death(url: str, broker: RunningBroker) -> Death:
    broker.clean()
    output = {"type": "redis", "url": broker.url, "maxlen": 100_000}
    with running_pool(dict.fromkeys("abcd", url), [output], seconds=CAMERA_SLEEP) as running:
        wait_for(lambda: set(running.states().values()) == {"live"}, seconds=LONGEST)
        time.sleep(QUIET)
        victim = max(running.handles, key=lambda handle: len(handle.handed))
        lost = set(victim.handed)
        assert victim.pid is not None
        killed = time.time()
        os.kill(victim.pid, signal.SIGKILL)
        wait_for(lambda: all(seen(broker, name)[-1].epoch for name in lost), seconds=LONGEST)
        time.sleep(QUIET)
        results = {name: seen(broker, name) for name in "abcd"}
    return Death(results, lost, killed)


def published(result: FrameResult) -> float:
    """UNIX seconds."""
    return result.time + result.latency_ms / 1000


def missing(results: Sequence[FrameResult]) -> int:
    """Frame numbers that are not there, within each epoch."""
    return sum(b.frame - a.frame - 1 for a, b in itertools.pairwise(results) if a.epoch == b.epoch)


if __name__ == "__main__":
    main()
