"""The speed part of `gpu.py`: tables of models and batch sizes, and the whole program."""

import gc
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_checks import CLIP, encoded, read_frames
from models import Bench
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from streamseg.config import parse_config
from streamseg.inference import Segmenter
from streamseg.inference.devices import choose_precision
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.inference.tickets import BatchTicket
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folded import folded_copy
from streamseg.models.weights.files import find_weights, load_detector
from streamseg.models.weights.zoo import official_models, read_model
from streamseg.runtime.build import build_pipeline

Pictures = Sequence[NDArray[np.uint8]]
AHEAD = 2
"""Batches that are handed in before the first of them is waited for."""


def measure_all(models: Sequence[str], device: torch.device, *, quick: bool, until: float) -> dict[str, Any]:
    """All tables; rows that would begin after ``until`` (of the monotonic clock) are left out."""
    report: dict[str, Any] = {"program": programs(device, quick), "memory_order": [], "models": []}
    left_out = []
    batches = (2,) if quick else (8, 1, 32)
    for batch in batches:  # the goals are of batches of 8: they come first
        for name in ("demo", *models):
            if time.monotonic() > until:
                left_out.append(f"{name}, batch {batch}")
                continue
            report["models"].append(measure_model(name, device, batch=batch, rounds=1 if quick else 5))
    for name in ("demo", *models[:1]):
        if time.monotonic() < until:
            report["memory_order"].append(orders(name, device, batch=1 if quick else 8))
    return report | {"left_out": left_out}


def measure_model(name: str, device: torch.device, *, batch: int, rounds: int) -> dict[str, Any]:
    """One row."""
    row: dict[str, Any] = {"model": name, "batch": batch}
    try:
        segmenter, pictures = loaded(name, device, batch)
        images = noise(segmenter.canvas(*pictures[0].shape[:2]), batch, device, segmenter.dtype)
        network = seconds_of(segmenter, images, rounds)
        count = max(4, 64 // batch) if device.type == "cuda" else 2
        engine(segmenter, pictures, 2)  # warm-up
        frames_per_second = statistics.median(engine(segmenter, pictures, count) for _ in range(rounds))
        row |= {
            "runtime": segmenter.runtime,
            "input": segmenter.canvas(*pictures[0].shape[:2]),
            "network_ms_per_picture": round(1000 * network / batch, 3),
            "engine_frames_per_second": round(frames_per_second, 1),
            "share_of_network": round(frames_per_second * network / batch, 3),
            "gpu_busy": busy(segmenter, pictures, count),
        }
    except torch.OutOfMemoryError:
        row["failed"] = "out of memory"
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return row


def loaded(name: str, device: torch.device, batch: int) -> tuple[Segmenter, Pictures]:
    """A model with pictures; official ones have random weights, and outputs of a known load."""
    if name == "demo":
        return Segmenter.load("demo", device=str(device)), (read_frames(min(batch, 8)) * batch)[:batch]
    bench = Bench.build(name, str(device), "auto", batch=batch)
    return bench.segmenter, bench.pictures


def noise(canvas: tuple[int, int], batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    images = torch.randn(batch, 3, *canvas, device=device, dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def seconds_of(segmenter: Segmenter, images: Tensor, rounds: int) -> float:
    """Of the network alone, on the stream that the engine gives it."""
    device, taken = segmenter.device, []
    for turn in range(rounds + 2):
        wait_for(device)
        started = time.perf_counter()
        with segmenter._streams.computing(images):
            segmenter._network(images)
        wait_for(device)
        if turn >= 2 or device.type == "cpu":
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def engine(segmenter: Segmenter, pictures: Pictures, batches: int) -> float:
    """Frames a second, from frames to run lengths on the host; pictures are finished by a pool."""
    waiting: deque[BatchTicket] = deque()
    finished: list[Future[list[object]]] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def wait_and_finish() -> None:
            ticket = waiting.popleft()
            segmenter.wait(ticket)
            finished.extend(
                pool.submit(lambda k=k: encoded(segmenter.finish(ticket, k))) for k in range(len(pictures))
            )

        for _ in range(batches):
            waiting.append(segmenter.submit(pictures))
            if len(waiting) > AHEAD:
                wait_and_finish()
        while waiting:
            wait_and_finish()
        for future in finished:
            future.result()
    return batches * len(pictures) / (time.perf_counter() - started)


def busy(segmenter: Segmenter, pictures: Pictures, batches: int) -> float | None:
    """Share of the time in which the card runs a kernel, between the first and the last one."""
    if segmenter.device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        engine(segmenter, pictures, batches)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and "Memcpy" not in event.name
    ]
    return covered(spans)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The share of the time from the first to the last that lies in any of them."""
    ordered = sorted(spans)
    if not ordered:
        return 0.0
    total, reached = 0.0, ordered[0][0]
    for start, end in ordered:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return round(total / max(1e-9, reached - ordered[0][0]), 3)


@torch.inference_mode()
def orders(name: str, device: torch.device, *, batch: int) -> dict[str, Any]:
    """Milliseconds of a batch, without graphs, with weights and pictures in either order in memory."""
    dtype = choose_precision("auto", device)
    spec = None if name == "demo" else read_model(official_models()[name])
    detector = load_detector(find_weights(name)) if spec is None else Detector(spec)
    canvas = detector.spec.input.canvas or (480, 640)
    row: dict[str, Any] = {"model": name, "batch": batch}
    for order in (torch.channels_last, torch.contiguous_format):
        network = TorchNetwork(folded_copy(detector), device=device, dtype=dtype)
        network._detector.to(memory_format=order)
        images = torch.randn(batch, 3, *canvas, device=device, dtype=dtype).contiguous(memory_format=order)
        taken = []
        for _ in range(2 if device.type == "cpu" else 20):
            wait_for(device)
            started = time.perf_counter()
            network(images)
            wait_for(device)
            taken.append(time.perf_counter() - started)
        row[str(order).removeprefix("torch.")] = round(1000 * min(taken), 2)
    return row


def programs(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The whole program on one and on many recordings at once, to NDJSON."""
    return [
        program(device, streams, end=0.4 if quick else None) for streams in ((1, 2) if quick else (1, 16))
    ]


def program(device: torch.device, streams: int, *, end: float | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        content = {
            "streams": [{"id": f"s{k}", "url": str(CLIP), "end": end} for k in range(streams)],
            "model": {"device": str(device), "runtime": "torch"},
            "outputs": [{"type": "ndjson", "path": f"{folder}/{{stream}}.ndjson"}],
        }
        pipeline = build_pipeline(parse_config(content, where="benchmark"))
        with pipeline:
            pipeline.join()
        written = sum(len(path.read_text().splitlines()) for path in Path(folder).glob("*.ndjson"))
    stats = pipeline.stats
    return {
        "streams": streams,
        "frames": stats.frames,
        "lines": written,
        "frames_per_second": round(stats.frames / stats.seconds, 1),
    }
