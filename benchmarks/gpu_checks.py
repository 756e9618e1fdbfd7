"""The correctness part of `gpu.py`: each check compares a device with the CPU, or a way with another."""

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import memory
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamseg.inference import Segmenter
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.masks.rle import encode_crop
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.folded import folded_copy
from streamseg.models.nets.head import HeadOutput
from streamseg.models.weights.files import find_weights, load_detector
from streamseg.types import Instances

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "street.mp4"
HALVES = {"fp16": (0.95, 0.98), "bf16": (0.9, 0.85)}
"""Of the clear instances in fp32, so large a share has a partner whose mask overlaps theirs so much (IoU)."""
CLEAR, FAINT = 0.35, 0.2


@dataclass(frozen=True)
class Line:
    check: str
    ok: bool | None
    """None: not made."""
    found: str

    @property
    def verdict(self) -> str:
        return {True: "ok", False: "WRONG", None: "-"}[self.ok]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


Check = Callable[[torch.device, bool], list[Line]]


def oracle_networks(device: torch.device, quick: bool) -> list[Line]:
    """Networks of the reference files, fp32: the CPU's numbers, which the test suite compares with them."""
    try:
        from tests.models.test_detector_oracle import load_detector as load_whole  # noqa: PLC0415
        from tests.models.test_head_oracle import load_head  # noqa: PLC0415
        from tests.support.oracle import Oracle, names_of  # noqa: PLC0415
    except ImportError as error:
        return [Line("reference networks", None, f"needs the tests and the extra test ({error})")]
    lines = []
    for name in names_of("head")[: 2 if quick else None]:
        oracle = Oracle(name)
        lines.append(same_outputs(f"fp32, {name}", load_head(oracle), oracle.tensors("feats"), device))
    for name in names_of("detector")[: 1 if quick else None]:
        oracle = Oracle(name)
        images = oracle.tensor("infer0/net_input")
        images = images.reshape(1, 3, *images.shape[-2:])
        lines.append(same_outputs(f"fp32, {name}", folded_copy(load_whole(oracle)), images, device))
    return lines or [Line("reference networks", None, "no oracle files")]


@torch.inference_mode()
def same_outputs(check: str, network: nn.Module, inputs: Tensor | list[Tensor], device: torch.device) -> Line:
    expected = network(inputs)
    moved = [x.to(device) for x in inputs] if isinstance(inputs, list) else inputs.to(device)
    return compare(check, copy.deepcopy(network).to(device)(moved), expected, limit=1e-3)


def compare(check: str, ours: HeadOutput, expected: HeadOutput, *, limit: float) -> Line:
    """The largest difference of any value, in shares of its tensor's largest where that is above 1."""
    differences = [
        float((a.cpu().float() - b.cpu().float()).abs().max() / max(1.0, float(b.abs().max())))
        for a, b in zip(batch_tensors(ours), batch_tensors(expected), strict=True)
    ]
    return Line(check, max(differences) <= limit, f"differs by {max(differences):.2g}, allowed {limit:g}")


def real_pictures(device: torch.device, quick: bool) -> list[Line]:
    """Frames of the demo clip: fp32 on the CPU against every precision of the device."""
    frames = read_frames(2 if quick else 8)
    exact = found_in(frames, "cpu", "fp32", score=CLEAR)
    lines = [
        partners("fp32, demo clip", exact, found_in(frames, str(device), "fp32"), share=1.0, overlap=0.98)
    ]
    for precision, (share, overlap) in HALVES.items():
        if precision == "fp16" and device.type == "cpu":
            lines.append(Line("fp16, demo clip", None, "a CPU does not compute it"))
            continue
        ours = found_in(frames, str(device), precision)
        lines.append(partners(f"{precision}, demo clip", exact, ours, share=share, overlap=overlap))
    return lines


def read_frames(count: int) -> list[NDArray[np.uint8]]:
    """Frames of the clip that lie apart, (H, W, 3) RGB."""
    with av.open(str(CLIP)) as container:
        frames = itertools.islice(container.decode(video=0), 0, None, 25)
        return [frame.to_ndarray(format="rgb24") for frame in itertools.islice(frames, count)]


def found_in(
    frames: Sequence[NDArray[np.uint8]], device: str, precision: str, *, score: float = FAINT
) -> list[Instances]:
    segmenter = Segmenter.load("demo", device=device, precision=precision, runtime="torch", score=score)
    return [segmenter(frame) for frame in frames]


def partners(
    check: str, exact: list[Instances], ours: list[Instances], *, share: float, overlap: float
) -> Line:
    """How many instances are found again: their class, and a mask that overlaps theirs."""
    overlaps = [
        max((iou(mask, m) for c, m in zip(b.class_ids, b.masks(), strict=True) if c == class_id), default=0.0)
        for a, b in zip(exact, ours, strict=True)
        for class_id, mask in zip(a.class_ids, a.masks(), strict=True)
    ]
    again = float(np.mean([x >= overlap for x in overlaps]))
    return Line(
        check,
        again >= share and len(overlaps) > 0,
        f"{again:.0%} of {len(overlaps)} instances with IoU >= {overlap}, allowed {share:.0%}; "
        f"mean IoU {np.mean(overlaps):.4f}",
    )


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@torch.inference_mode()
def graphs(device: torch.device, _: bool) -> list[Line]:
    """CUDA graphs against none: batches that fill one, and some that are padded."""
    if device.type != "cuda":
        return [Line("CUDA graphs", None, "no CUDA device")]
    from streamseg.inference.runtimes.graphs import GraphedNetwork  # noqa: PLC0415

    detector = folded_copy(load_detector(find_weights("demo")))
    plain = TorchNetwork(detector, device=device, dtype=torch.float16)
    graphed = GraphedNetwork(plain, device=device)
    canvas = detector.spec.input.canvas
    assert canvas is not None
    lines = []
    with torch.cuda.stream(torch.cuda.Stream(device)):
        for count in (1, 3, 8, 13):
            images = torch.randn(count, 3, *canvas, device=device, dtype=torch.float16)
            images = images.contiguous(memory_format=torch.channels_last)
            lines.append(
                compare(f"CUDA graphs, {count} pictures", graphed(images), plain(images), limit=2e-2)
            )
    recorded = sum(one is not None for one in graphed._recorded.values())
    return [*lines, Line("CUDA graphs are recorded", recorded == 4, f"{recorded} of 4 sizes")]


@torch.inference_mode()
def run_lengths(device: torch.device, quick: bool) -> list[Line]:
    """The same logits, post-processed on the device and on the CPU: run lengths pixel by pixel."""
    frames = read_frames(2 if quick else 4)
    host = Segmenter.load("demo", device="cpu", precision="fp32", runtime="torch", score=FAINT)
    ours = Segmenter.load("demo", device=str(device), precision="fp32", runtime="torch", score=FAINT)
    ticket = host.submit(frames)
    assert ticket.computing is not None
    output = ticket.computing.result().output
    moved = with_tensors(output, [tensor.to(device) for tensor in batch_tensors(output)])
    sizes = [frame.shape[:2] for frame in frames]
    pairs = zip(memory.finish(host, output, sizes), memory.finish(ours, moved, sizes), strict=True)
    wrong = total = 0
    for expected, found in pairs:
        theirs, mine = encoded(expected), encoded(found)
        total += len(theirs)
        wrong += abs(len(theirs) - len(mine)) + sum(a != b for a, b in zip(theirs, mine, strict=False))
    # A soft value that rounding brings over the threshold changes a pixel, and so the string.
    return [Line("run lengths of the same logits", wrong <= 0.1 * total, f"{wrong} of {total} differ")]


def encoded(found: Instances) -> list[object]:
    """The run lengths of each instance's mask at source size."""
    return [
        encode_crop(crop, box, found.height, found.width)
        for crop, box in zip(found.crops, found.boxes, strict=True)
    ]


def leftovers(device: torch.device, quick: bool) -> list[Line]:
    """Memory after many batches, less that after a third of them."""
    segmenter = Segmenter.load("demo", device=str(device), runtime="torch")
    frames = read_frames(2)
    batches = 6 if quick else 600
    held = []
    for turn in range(batches):
        ticket = segmenter.submit(frames * (1 + turn % 3))
        segmenter.wait(ticket)
        for k in range(len(ticket.sizes)):
            segmenter.finish(ticket, k)
        if turn in {batches // 3, batches - 1}:
            on_device = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            held.append((memory._resident_kb("VmRSS:") / 1024, on_device / 2**20))
    host, card = (held[1][k] - held[0][k] for k in range(2))
    return [
        Line("host memory does not grow", host <= 64, f"{host:.1f} MB in {batches} batches, allowed 64"),
        Line("device memory does not grow", card <= 1, f"{card:.1f} MB in {batches} batches, allowed 1"),
    ]


def marked_tests(device: torch.device, _: bool) -> list[Line]:
    """The tests that need a card."""
    if device.type != "cuda":
        return [Line("tests marked cuda", None, "no CUDA device")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "cuda", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "inference")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return [Line("tests marked cuda", done.returncode == 0, last)]


CHECKS: tuple[Check, ...] = (oracle_networks, real_pictures, graphs, run_lengths, leftovers, marked_tests)
