"""Memory that post-processing takes at its peak on a full-size input with many candidates.

    python benchmarks/memory.py [--device cpu]

For each architecture, with 80 and with 1,203 classes: from raw head outputs of an 800 x 1344 canvas with
500 candidates to the masks of the kept instances at source resolution on the host, float32. Every case
runs in a fresh process, after one run of the same size, so that buffers which libraries make once do not
count. `models.py` does the same and keeps the result.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import torch
from workload import head_output

from streamseg.inference.segmenter import Segmenter
from streamseg.inference.tickets import BatchTicket, Computing
from streamseg.models.input_size import geometry
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.weights.zoo import official_models, read_model
from streamseg.types import Instances

LIMIT_MB = 350
MODELS = ("solo_r50", "decoupled_solo_r50", "solov2_r50")
CLASSES = (80, 1203)
CANDIDATES = 500
SOURCE = (800, 1333)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cpu")
    options.add_argument("--one", nargs=2, metavar=("MODEL", "CLASSES"), help="one case, in this process")
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one[0], int(chosen.one[1]), chosen.device)))
    else:
        print(format_table(measure_all(chosen.device)))


def measure_all(device: str) -> list[dict]:
    """One entry for each case, each from a process of its own."""
    entries = []
    for model in MODELS:
        for classes in CLASSES:
            command = [sys.executable, __file__, "--device", device, "--one", model, str(classes)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            entries.append(json.loads(done.stdout))
    return entries


def measure(model: str, classes: int, device: str) -> dict:
    spec = read_model(official_models()[model])
    spec = spec.model_copy(update={"classes": tuple(f"class_{k}" for k in range(classes))})
    segmenter = Segmenter(Detector(spec), name=model, device=device, precision="fp32", score=0.0)
    canvas = segmenter.canvas(*SOURCE)
    output = head_output(spec, canvas, candidates=CANDIDATES, device=segmenter.device)
    found = finish(segmenter, output, [SOURCE])
    peak = peak_mb(lambda: finish(segmenter, output, [SOURCE]), segmenter.device)
    start = time.perf_counter()
    finish(segmenter, output, [SOURCE])
    return {
        "architecture": spec.architecture,
        "classes": classes,
        "input": canvas,
        "candidates": CANDIDATES,
        "instances": len(found[0].scores),
        "postprocessing_ms": round((time.perf_counter() - start) * 1000, 1),
        "peak_mb": round(peak, 1),
        "limit_mb": LIMIT_MB,
        "within_limit": peak <= LIMIT_MB,
    }


def finish(segmenter: Segmenter, output: HeadOutput, sources: Sequence[tuple[int, int]]) -> list[Instances]:
    """All that comes after the network, for pictures of these sizes: masks at source resolution."""
    sizes = tuple(geometry(*source, segmenter.spec.input) for source in sources)
    now = segmenter._streams.mark()
    computing: Future[Computing] = Future()
    computing.set_result(Computing(output, segmenter._postprocessor.select(output), now, now))
    ticket = BatchTicket(sizes, computing, [None] * len(sizes))
    segmenter.wait(ticket)
    return [segmenter.finish(ticket, k) for k in range(len(sizes))]


def peak_mb(work: Callable[[], object], device: torch.device) -> float:
    """MB (2^20 bytes) beyond what was held before; on a CPU of resident memory, on CUDA of torch's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    # What earlier runs have freed must go back first, or this one would use it and count for less.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident_kb("VmRSS")
    work()
    return (_resident_kb("VmHWM") - before) / 1024


def _resident_kb(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def format_table(entries: Sequence[dict]) -> str:
    rows = []
    for e in entries:
        peak = f"{e['peak_mb']:.0f}" + ("" if e["within_limit"] else " (too much)")
        rows.append(f"| {e['architecture']} | {e['classes']} | {peak} | {e['postprocessing_ms']:.0f} |")
    heading = [f"| architecture | classes | peak MB (limit {LIMIT_MB}) | ms |", "|---|---|---|---|"]
    return "\n".join(heading + rows)


if __name__ == "__main__":
    main()
