"""Speed and memory of the official models.

    python benchmarks/models.py [--device cpu] [--models NAME ... | all] [--rounds 5]

A picture of 640 x 480, random weights, 200 candidates a picture of which 100 become instances (see
`workload.py`). By turns, medians of all rounds:

* network: the bare network on its input, without pre- and post-processing;
* post-processing: from the raw head outputs to the masks of the kept instances at source resolution on
  the host;
* host to host: pictures in host memory to those masks, pre-processing included. On CUDA one batch is
  handed in before the one before it is fetched, so that copies and computation overlap;
* the peak of memory, beyond what is held anyway, while post-processing, and from host to host.

With one thread the CPU's time is measured in place of the real time: on a busy machine that is the
steadier figure (set OPENBLAS_NUM_THREADS=1 as well).

In the device's best precision and in fp32; on CUDA in fp32, fp16 and bf16, in batches of 1, 8 and 32.
Besides the post-processing of a full-size input, see `memory.py`. The figures stand beside those that
`reference.py` found for the reference implementation. Writes benchmarks/results/models.json, or
models_<device>.json for CUDA.
"""

import argparse
import gc
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import memory
import numpy as np
import torch
from machine import describe_machine
from workload import Loaded, head_output

from streamseg.inference.devices import PRECISIONS, choose_device, choose_precision
from streamseg.inference.segmenter import Segmenter
from streamseg.inference.tickets import BatchTicket
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.weights.zoo import official_models, read_model

RESULTS = Path(__file__).resolve().parent / "results"
SOURCE = (480, 640)
CANDIDATES = 200
MODELS = ("solo_r50", "decoupled_solo_r50", "decoupled_solo_light_r50", "solov2_r50", "solov2_light_448_r18")
"""Those that there are figures of the reference for."""
PUBLISHED_V100 = {
    "solo_r50": "77-95",
    "decoupled_solo_r50": "85-117",
    "decoupled_solo_light_r50": "29-35",
    "solov2_r50": "54",
    "solov2_light_448_r18": "19",
}
"""Milliseconds for one picture on a V100, as the authors published them."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cpu")
    options.add_argument("--models", nargs="+", default=MODELS, help="names, or all")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, help="of torch; with 1, CPU time is measured")
    options.add_argument("--reference", type=Path, default=RESULTS / "reference.json")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    set_threads(chosen.threads)
    device = choose_device(chosen.device)
    names = list(official_models()) if "all" in chosen.models else chosen.models
    entries = [
        entry
        for name in names
        for precision in precisions(device)
        for batch in ((1, 8, 32) if device.type == "cuda" else (1,))
        for entry in [measure_or_say(name, str(device), precision, batch=batch, rounds=chosen.rounds)]
    ]
    report = {
        "machine": describe_machine(),
        "device": str(device),
        "clock": clock().__name__,
        "source": SOURCE,
        "candidates": CANDIDATES,
        "rounds": chosen.rounds,
        "models": entries,
        "full_size": memory.measure_all(str(device)),
    }
    out = chosen.out or RESULTS / f"{file_name(device)}.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(format_table(entries, reference=read_reference(chosen.reference), device=device))
    print(f"\nPost-processing of 800 x 1344 with {memory.CANDIDATES} candidates:\n")
    print(memory.format_table(report["full_size"]))


def precisions(device: torch.device) -> list[str]:
    """The best first."""
    best = choose_precision("auto", device)
    wanted = PRECISIONS.values() if device.type == "cuda" else [torch.float32]
    names = {dtype: name for name, dtype in PRECISIONS.items()}
    return [names[dtype] for dtype in dict.fromkeys([best, *wanted])]


def file_name(device: torch.device) -> str:
    if device.type == "cpu":
        return "models"
    return "models_" + re.sub(r"\W+", "_", torch.cuda.get_device_name(device).lower()).strip("_")


@dataclass(frozen=True)
class Bench:
    """A model on a device with random weights, and outputs of a known load."""

    name: str
    segmenter: Segmenter
    pictures: list[np.ndarray]
    output: HeadOutput

    @classmethod
    def build(cls, name: str, device: str, precision: str, *, batch: int = 1) -> "Bench":
        torch.manual_seed(0)
        spec = read_model(official_models()[name])
        detector = Detector(spec)
        segmenter = Segmenter(detector, name=name, device=device, precision=precision, score=0.0)
        output = head_output(
            spec,
            segmenter.canvas(*SOURCE),
            candidates=CANDIDATES,
            batch=batch,
            device=segmenter.device,
            dtype=segmenter.dtype,
        )
        segmenter._network = Loaded(segmenter._network, output)
        noise = np.random.default_rng(0).integers(0, 256, (batch, *SOURCE, 3), dtype=np.uint8)
        return cls(name, segmenter, list(noise), output)

    @property
    def canvas(self) -> tuple[int, int]:
        return self.segmenter.canvas(*SOURCE)

    def wait(self) -> None:
        if self.segmenter.device.type == "cuda":
            torch.cuda.synchronize(self.segmenter.device)

    def input(self) -> torch.Tensor:
        s = self.segmenter
        images = torch.randn(len(self.pictures), 3, *self.canvas, device=s.device, dtype=s.dtype)
        return images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def network(self, images: torch.Tensor) -> None:
        self.segmenter._network(images)
        self.wait()

    def postprocessing(self) -> int:
        """Returns the number of instances in the first picture."""
        return len(memory.finish(self.segmenter, self.output, [SOURCE] * len(self.pictures))[0].scores)

    def host_to_host(self, batches: int) -> None:
        waiting = self.segmenter.submit(self.pictures)
        for _ in range(batches - 1):
            following = self.segmenter.submit(self.pictures)
            self.finish(waiting)
            waiting = following
        self.finish(waiting)

    def finish(self, ticket: BatchTicket) -> None:
        self.segmenter.wait(ticket)
        for k in range(len(self.pictures)):
            self.segmenter.finish(ticket, k)


def measure_or_say(name: str, device: str, precision: str, *, batch: int, rounds: int) -> dict:
    try:
        entry = measure(Bench.build(name, device, precision, batch=batch), rounds)
    except torch.OutOfMemoryError:
        entry = {"failed": "out of memory"}
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
    entry = {"model": name, "precision": precision, "batch": batch, **entry}
    print(entry, flush=True)
    return entry


def measure(bench: Bench, rounds: int) -> dict:
    cuda = bench.segmenter.device.type == "cuda"
    images, batch = bench.input(), len(bench.pictures)
    batches = max(4, 32 // batch) if cuda else 1
    stages: dict[str, Callable[[], object]] = {
        "network": lambda: bench.network(images),
        "postprocessing": bench.postprocessing,
        "host_to_host": lambda: bench.host_to_host(batches),
    }
    for _ in range(3 if cuda else 1):  # warm-up
        for stage in stages.values():
            stage()
    times = {name: np.array(t) * 1000 / batch for name, t in by_turns(stages, rounds).items()}
    times["host_to_host"] /= batches
    times["total"] = times["network"] + times["postprocessing"]
    return {
        "input": bench.canvas,
        "instances": bench.postprocessing(),
        "ms_per_picture": {name: round(float(np.median(t)), 2) for name, t in times.items()},
        "postprocessing_peak_mb": round(memory.peak_mb(bench.postprocessing, bench.segmenter.device), 1),
        "host_to_host_peak_mb": round(
            memory.peak_mb(lambda: bench.host_to_host(min(2, batches)), bench.segmenter.device), 1
        ),
    }


def set_threads(count: int | None) -> None:
    if count is not None:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)


def clock() -> Callable[[], float]:
    """The CPU time of one thread, which does not depend on what else the machine does; else real time."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time if alone else time.perf_counter


def by_turns(stages: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each stage in every round."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    now = clock()
    for _ in range(rounds):
        for name, stage in stages.items():
            start = now()
            stage()
            times[name].append(now() - start)
    return times


def read_reference(path: Path) -> dict[str, dict]:
    """The reference's entry of each model, if the same was measured: CPU time or real time."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {e["model"]: e for e in found["models"]} if found.get("clock") == clock().__name__ else {}


def format_table(entries: Sequence[dict], *, reference: dict[str, dict], device: torch.device) -> str:
    head = ["model", "input", "precision", "batch", "network ms", "post-processing ms", "total ms"]
    head += ["host to host ms", "peak MB post-processing", "peak MB host to host"]
    head += ["reference total ms", "reference post-processing ms"] if device.type == "cpu" else ["V100 ms"]
    rows = [head, ["---"] * len(head)]
    for e in entries:
        row = [e["model"], "", e["precision"], str(e["batch"])]
        if "failed" in e:
            rows.append([*row, e["failed"]])
            continue
        ms = e["ms_per_picture"]
        row[1] = "x".join(map(str, reversed(e["input"])))
        row += [f"{ms[k]:.4g}" for k in ("network", "postprocessing", "total", "host_to_host")]
        row += [f"{e['postprocessing_peak_mb']:.0f}", f"{e['host_to_host_peak_mb']:.0f}"]
        if device.type == "cpu":
            theirs = reference.get(e["model"], {}).get("reference_ms", {})
            row += [f"{theirs[k]:.4g}" if k in theirs else "" for k in ("total", "postprocessing")]
        else:
            row.append(PUBLISHED_V100.get(e["model"], ""))
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
