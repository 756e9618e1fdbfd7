"""Running the program as a user does, in a process of its own or in this one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.cli import main
from tests.support.logs import logging_as_before

ROOT = Path(__file__).resolve().parents[2]
STREET = ROOT / "samples" / "street.mp4"
_SECONDS = 110


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "run_stream.py"), *map(str, arguments)]


def run_program(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float = _SECONDS,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd or ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_main(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process: most of a start's time goes into loading torch, which is here already.

    What processes that it starts say is caught too.
    """
    words = list(map(str, arguments))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with _writing_to(out, err), logging_as_before(), _signals_as_before():
            code = main(words)
        return subprocess.CompletedProcess(words, code, _content(out), _content(err))


@contextmanager
def _writing_to(out: IO[str], err: IO[str]) -> Iterator[None]:
    """What this process and those it starts print goes to these files."""
    kept = [os.dup(number) for number in (1, 2)]
    for number, file in ((1, out), (2, err)):
        os.dup2(file.fileno(), number)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


@contextmanager
def _signals_as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _content(file: IO[str]) -> str:
    file.flush()
    file.seek(0)
    return file.read()


@contextmanager
def running_program(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A started program; it is killed if the test ends before it."""
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class Video:
    """What a player sees of a file."""

    size: tuple[int, int]
    """width, height"""
    seconds: list[float]
    """Presentation time of each frame."""
    audio_packets: int
    first: NDArray[np.uint8]


def read_video(path: Path) -> Video:
    with av.open(str(path)) as container:
        frames = [(float(f.pts * f.time_base), f) for f in container.decode(video=0)]
        first = frames[0][1].to_ndarray(format="rgb24")
        size = (frames[0][1].width, frames[0][1].height)
    packets = 0
    with av.open(str(path)) as container:
        if container.streams.audio:
            packets = sum(1 for p in container.demux(audio=0) if p.size)
    return Video(size, [seconds for seconds, _ in frames], packets, first)


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


_TOP = {
    "v": int,
    "stream": str,
    "epoch": int,
    "frame": int,
    "pts": (int, float),
    "time": (int, float),
    "width": int,
    "height": int,
    "latency_ms": (int, float),
    "model": str,
    "source": str,
    "instances": list,
}
_INSTANCE = {
    "id": (int, type(None)),
    "label": str,
    "class_id": int,
    "score": (int, float),
    "box": list,
    "area": int,
    "mask": dict,
}


def check_result(result: dict[str, Any]) -> None:
    """A result has version 1's keys and types, and each mask is what box and area say."""
    assert result.keys() == _TOP.keys()
    assert all(isinstance(result[key], kind) for key, kind in _TOP.items())
    assert result["v"] == 1
    scores = [instance["score"] for instance in result["instances"]]
    assert scores == sorted(scores, reverse=True)
    ids = [instance["id"] for instance in result["instances"] if instance["id"] is not None]
    assert len(ids) == len(set(ids))
    for instance in result["instances"]:
        assert instance.keys() - {"outvoted"} == _INSTANCE.keys()
        assert all(isinstance(instance[key], kind) for key, kind in _INSTANCE.items())
        assert instance["mask"]["size"] == [result["height"], result["width"]]
        mask = coco_mask.decode(instance["mask"])
        assert mask.shape == (result["height"], result["width"])
        ys, xs = np.nonzero(mask)
        assert instance["area"] == len(ys) > 0
        assert instance["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
