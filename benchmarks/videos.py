"""Overlay videos of one stream and of several side by side: do their encoders use all cores?

    python benchmarks/videos.py [--frames 120] [--streams 8]

Recordings of 1920x1080 with a model that finds four moving objects and takes no time: decoding, painting and
encoding are what is measured. Frames per second of all streams together, and the share of the machine's cores
that the program and its decode workers use. Writes benchmarks/results/videos.json. No part of the package: it
needs the tests' stand-ins.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.outputs import VideoOutput  # noqa: E402
from streamseg.runtime.pipeline import Pipeline  # noqa: E402
from streamseg.sources import resolve_sources  # noqa: E402
from tests.support.media import write_clip  # noqa: E402
from tests.support.moving import Moving  # noqa: E402


def measure(clips: list[Path], folder: Path) -> dict[str, float]:
    """All clips to their overlay videos, to the end."""
    folder.mkdir()
    output = VideoOutput(f"{folder}/", several=True)
    sources = resolve_sources([str(clip) for clip in clips])
    began, used = time.monotonic(), cpu_seconds()
    with Pipeline(sources, Moving(), [output]) as pipeline:
        pipeline.join()
    seconds, used = time.monotonic() - began, cpu_seconds() - used
    assert not pipeline.stats.errors
    return {
        "frames/s": round(pipeline.stats.frames / seconds, 2),
        "cores used": round(used / seconds, 2),
    }


def cpu_seconds() -> float:
    """Of this process and of its children that have exited."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frames", type=int, default=120)
    options.add_argument("--streams", type=int, default=8)
    chosen = options.parse_args()
    report: dict[str, object] = {"machine": describe_machine(), "frames a stream": chosen.frames}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [
            write_clip(folder / f"c{k}.mp4", frames=chosen.frames, width=1920, height=1080)
            for k in range(chosen.streams)
        ]
        for count in (1, chosen.streams):
            result = measure(clips[:count], folder / f"out{count}")
            report[f"{count} x 1920x1080"] = result
            print(count, json.dumps(result), flush=True)
    report["cores"] = os.cpu_count()
    (ROOT / "benchmarks" / "results" / "videos.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
