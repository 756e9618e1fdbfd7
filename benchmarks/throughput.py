"""How much of the bare model's speed is left in the whole program.

    python benchmarks/throughput.py [--device auto] [--rounds 3] [--runtimes torch openvino]

Measures by turns, on the demo clip four times in a row: the bare network, the network with pre- and
post-processing, and the whole program, to NDJSON and to an overlay video and NDJSON (imports and loading of
weights excluded, starting the decode worker included). Each by time and by CPU time of all processes, for
each runtime. The network works in batches as the program has them, too: one picture at a time leaves cores
idle. Writes medians, their ratios, and where the CPU time goes to benchmarks/results/throughput.json.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import re
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import torch
from machine import describe_machine

from streamseg import Segmenter
from streamseg.config import parse_config
from streamseg.models.input_size import geometry
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.pipeline import Pipeline

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "street.mp4"
TIMES = 4
"""The clip in a row: it lasts 12 s, of which starting a worker would be a tenth."""
BATCH = 8
"""Pictures in a batch, the program's own choice."""


class Rate(NamedTuple):
    """Frames per second, and per second of CPU time."""

    wall: float
    cpu: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="auto")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--runtimes", nargs="+", default=["torch", "openvino"])
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "throughput.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = repeated(CLIP, Path(folder) / "clip.mp4")
        runtimes = [Runtime(chosen.device, runtime, clip) for runtime in chosen.runtimes]
        for _ in range(chosen.rounds):
            for runtime in runtimes:
                runtime.measure()
        report = {
            "machine": describe_machine(),
            "rounds": chosen.rounds,
            "runtimes": {runtime.segmenter.runtime: runtime.report() for runtime in runtimes},
        }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


class Runtime:
    """All stages with one runtime, and what they took."""

    def __init__(self, device: str, runtime: str, clip: Path) -> None:
        self.segmenter = segmenter = Segmenter.load("demo", device=device, runtime=runtime)
        self._run = run = functools.partial(program, device=device, runtime=runtime, clip=clip)
        frames = read_frames(40)
        self._stages: dict[str, Callable[[], Rate]] = {
            "bare network, one picture at a time": lambda: bare_network(segmenter, frames, batch=1),
            f"bare network, batches of {BATCH}": lambda: bare_network(segmenter, frames, batch=BATCH),
            "with pre- and post-processing": lambda: pictures(segmenter, frames),
            "whole program: clip to NDJSON": lambda: whole_program(run, video=False),
            "whole program: clip to overlay video and NDJSON": lambda: whole_program(run, video=True),
        }
        self._rates: dict[str, list[Rate]] = {name: [] for name in self._stages}
        for name in list(self._stages)[:3]:
            self._stages[name]()  # warm-up

    def measure(self) -> None:
        """Each stage once."""
        for name, stage in self._stages.items():
            self._rates[name].append(stage())

    def report(self) -> dict[str, object]:
        """Medians, their ratios, and one more run for the profile."""
        wall, cpu = (
            {
                name: round(statistics.median(getattr(x, unit) for x in r), 2)
                for name, r in self._rates.items()
            }
            for unit in Rate._fields
        )
        return {
            "frames_per_second": wall,
            "frames_per_cpu_second": cpu,
            "ratio": {
                f"to {bare}, by {unit}": ratios(self._rates, bare, unit)
                for bare in list(self._stages)[:2]
                for unit in Rate._fields
            },
            "cpu_ms_per_frame_by_thread": profile(self._run),
        }


def repeated(clip: Path, path: Path) -> Path:
    """A file with the packets of ``clip`` several times."""
    with av.open(str(path), "w") as out:
        video = None
        for turn in range(TIMES):
            with av.open(str(clip)) as container:
                source = container.streams.video[0]
                video = video or out.add_stream_from_template(source)
                assert source.duration is not None
                for packet in container.demux(source):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts += turn * source.duration
                        packet.dts += turn * source.duration
                        packet.stream = video
                        out.mux(packet)
    return path


def ratios(rates: dict[str, list[Rate]], bare: str, unit: str) -> dict[str, float]:
    """Medians over the rounds, each against the same round's ``bare`` network."""
    return {
        name: round(
            statistics.median(
                getattr(a, unit) / getattr(b, unit) for a, b in zip(r, rates[bare], strict=True)
            ),
            3,
        )
        for name, r in rates.items()
    }


def read_frames(count: int) -> list:
    with av.open(str(CLIP)) as container:
        frames = itertools.islice(container.decode(video=0), count)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def rate(work: Callable[[], int]) -> Rate:
    """How fast ``work`` does the frames whose number it returns."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    frames = work()
    return Rate(frames / (time.perf_counter() - wall), frames / (cpu_seconds() - cpu))


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def bare_network(segmenter: Segmenter, frames: list, *, batch: int) -> Rate:
    height, width = geometry(*frames[0].shape[:2], segmenter.spec.input).canvas
    images = torch.randn(batch, 3, height, width, dtype=segmenter.dtype, device=segmenter.device)
    images = images.contiguous(memory_format=torch.channels_last)
    network = segmenter._network

    def work() -> int:
        with torch.inference_mode():
            for _ in range(len(frames) // batch):
                network(images)
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize()
        return len(frames)

    return rate(work)


def pictures(segmenter: Segmenter, frames: list) -> Rate:
    return rate(lambda: len([segmenter(frame) for frame in frames]))


def whole_program(program: Callable[..., Pipeline], *, video: bool) -> Rate:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = program(folder, video=video)

        def work() -> int:
            with pipeline:
                pipeline.join()
            return pipeline.stats.frames

        return rate(work)


def program(folder: str, *, device: str, runtime: str, clip: Path, video: bool) -> Pipeline:
    outputs = [{"type": "ndjson", "path": f"{folder}/a.ndjson"}]
    if video:
        outputs.append({"type": "video", "path": f"{folder}/a.mp4"})
    model = {"device": device, "runtime": runtime}
    content = {"streams": [{"url": str(clip)}], "model": model, "outputs": outputs}
    return build_pipeline(parse_config(content, where="benchmark"))


def profile(program: Callable[..., Pipeline]) -> dict[str, float]:
    """Where the whole program's CPU time goes; "others" are the threads of PyTorch, OpenCV and x264."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = program(folder, video=True)
        before, workers = thread_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN)
        latest: dict[int, tuple[str, float]] = {}
        with pipeline:
            runner = threading.Thread(target=pipeline.join, name="main")
            runner.start()
            while runner.is_alive():  # a thread that has ended is not listed any more
                runner.join(0.05)
                latest.update(thread_seconds())
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent: Counter[str] = Counter()
    for number, (name, seconds) in latest.items():
        spent[re.sub(r"[-_]\d+$", "", name)] += seconds - before.get(number, ("", 0.0))[1]
    spent["decode worker"] = ended.ru_utime + ended.ru_stime - workers.ru_utime - workers.ru_stime
    return {name: round(1000 * s / pipeline.stats.frames, 2) for name, s in spent.most_common() if s > 0}


def thread_seconds() -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of every thread of this process, by number."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for place in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            number = int(place.name)
            found[number] = (names.get(number, "others"), ticks / os.sysconf("SC_CLK_TCK"))
    return found


if __name__ == "__main__":
    main()
