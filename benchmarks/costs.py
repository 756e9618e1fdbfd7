"""What a frame costs after the network, step by step, and what is left of the speed with all steps.

    python benchmarks/costs.py [--rounds 3] [--device auto]

First the CPU time per frame of each step at 1080p with 10 and 50 instances (one thread, a real broker, a
viewer who looks at the page). Then the whole program on the demo clip by turns: results to a file only, and
with tracking, overlay pictures, Redis, the page with a viewer and metrics as well. Needs the extra `test`
for the broker. Writes benchmarks/results/costs.json.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cv2
from machine import describe_machine
from overlay import scene

from streamseg.config import parse_config
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.redis.publish import RedisOutput
from streamseg.results.frame_result import frame_result
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.services import Services
from streamseg.runtime.tracking import Tracker
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, Output, StreamEnd, StreamInfo
from streamseg.web.hub import TILE, Hub
from streamseg.web.output import ViewOutput

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "street.mp4"
RESULTS = ROOT / "benchmarks" / "results"
FRAMES = 50
sys.path.insert(0, str(ROOT))
Scene = tuple[Frame, Instances]


def main() -> None:
    from tests.support.broker import running_broker  # noqa: PLC0415  found only now

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name) / "broker") as broker:
        report: dict[str, Any] = {"machine": describe_machine(), "cpu_milliseconds_per_frame_at_1080p": {}}
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        for count in (10, 50):
            scenes = [scene(i, count, 1920, 1080) for i in range(FRAMES)]
            report["cpu_milliseconds_per_frame_at_1080p"][f"{count} instances"] = steps(
                scenes, Path(name), broker.url
            )
        cv2.setNumThreads(threads)
        report["frames_per_second"] = programs(chosen.rounds, chosen.device, Path(name), broker.url)
    (RESULTS / "costs.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def steps(scenes: list[Scene], folder: Path, url: str) -> dict[str, float]:
    results = [frame_result(f, i, model="bench", published_at=f.decoded_at) for f, i in scenes]
    tracker, hub = Tracker(fps=25), Hub()
    hub.watch("somebody", {"bench": TILE})
    costs = {
        "tracking": cost(scenes, lambda k, _, found: tracker.update(found, time=k / 25)),
        "result with run lengths": cost(
            scenes, lambda _, frame, found: frame_result(frame, found, model="bench", published_at=0.0)
        ),
    }
    outputs: dict[str, Output] = {
        "NDJSON": NdjsonOutput(str(folder / f"{len(results[0].instances)}.ndjson")),
        "Redis, results": RedisOutput(url),
        "Redis, results and overlays": RedisOutput(url, overlays=True),
        "overlay video": VideoOutput(str(folder / f"{len(results[0].instances)}.mp4")),
        "page with a viewer": ViewOutput(hub),
    }
    return costs | {name: output_cost(output, scenes, results) for name, output in outputs.items()}


def cost(
    scenes: list[Scene], step: Callable[[int, Frame, Instances], object], *, pause: float = 0.0
) -> float:
    """Median milliseconds of CPU time, of all threads; ``pause`` seconds between two frames."""
    spent = []
    for k, (frame, found) in enumerate(scenes):
        started = time.process_time()
        step(k, frame, found)
        spent.append(1000 * (time.process_time() - started))
        time.sleep(pause)
    return round(statistics.mean(spent[5:]) if pause else statistics.median(spent[5:]), 2)


def output_cost(output: Output, scenes: list[Scene], results: list[FrameResult]) -> float:
    frame = scenes[0][0]
    info = StreamInfo(
        "bench", "bench", FramePolicy.EVERY_FRAME, 0, frame.width, frame.height, frame.time_base, 25.0, FRAMES
    )
    writer = output.open(info)
    # The page paints by the clock: frames come as a camera's do.
    pause = 0.04 if isinstance(output, ViewOutput) else 0.0
    try:
        return cost(scenes, lambda k, f, i: writer.write(results[k], f, i), pause=pause)
    finally:
        writer.close(StreamEnd.ENDED)
        output.shutdown()


def programs(rounds: int, device: str, folder: Path, url: str) -> dict[str, float]:
    rates: dict[str, list[float]] = {"results to a file": [], "with all of it": []}
    for turn in range(rounds + 1):
        for name, values in rates.items():
            rate = program(device, folder, url if name == "with all of it" else None)
            if turn:  # the first is warm-up
                values.append(rate)
    medians = {name: round(statistics.median(values), 2) for name, values in rates.items()}
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    return medians | {"ratio": round(ratio, 3)}


def program(device: str, folder: Path, url: str | None) -> float:
    content: dict[str, Any] = {
        "streams": [{"id": "street", "url": str(CLIP)}],
        "model": {"device": device},
        "tracking": {"enabled": url is not None},
        "outputs": [{"type": "ndjson", "path": str(folder / "street.ndjson")}],
    }
    if url is not None:
        content["outputs"] += [
            {"type": "redis", "url": url, "overlays": True},
            {"type": "video", "path": str(folder / "street.mp4")},
        ]
        content |= {"view": {"enabled": True, "port": 0}, "metrics": {"enabled": True, "port": 0}}
    config = parse_config(content, where="benchmark")
    with Services(config) as services:
        pipeline = build_pipeline(
            config, outputs=services.outputs, observe=services.observe, meter=services.meter
        )
        services.attach(pipeline)
        with viewer(services.urls[0] if services.urls else None), pipeline:
            pipeline.join()
    return pipeline.stats.frames / pipeline.stats.seconds


@contextmanager
def viewer(url: str | None) -> Iterator[None]:
    """Somebody who looks at the page, in a thread."""
    if url is None:
        yield
        return
    loop = asyncio.new_event_loop()

    async def look() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}live") as socket:
            await socket.send_str('{"type": "watch", "tiles": ["street"]}')
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await socket.send_str('{"type": "drawn", "stream": "street"}')

    thread = threading.Thread(target=lambda: loop.run_until_complete(look()), daemon=True)
    thread.start()
    yield
    # The server ends the connection.


if __name__ == "__main__":
    main()
