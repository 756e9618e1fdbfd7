"""``streamseg bench``."""

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from streamseg.cli.logs import configure_logging
from streamseg.config import ModelConfig, one_device, parse_config
from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.runtime.bench import Speed

EXAMPLE = "Example: streamseg bench street.mp4 --batches 1,4"
_STAGES = ("decode", "preprocess", "forward", "postprocess")


@click.command("bench", epilog=EXAMPLE)
@click.argument("source")
@click.option("--weights", default="demo", show_default=True, help="Bundled name or .safetensors file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16.")
@click.option("--runtime", default="auto", show_default=True, help="auto, torch, onnxruntime or openvino.")
@click.option("--batches", default="1,2,4,8", show_default=True, metavar="N,N", help="Batch sizes.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Of each batch size."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(*, source: str, batches: str, seconds: float, as_json: bool, **model: str) -> None:
    """Measure how fast a model is on this machine.

    SOURCE is a recorded file. Its first pictures go through the model alone, in batches; then the whole
    program processes the file to its end, without outputs.
    """
    sizes = _sizes(batches)
    if "://" in source:
        raise UsageError("bench measures with a recorded file: a camera sends no faster than it films")
    configure_logging("warning", as_json=False)
    logging.getLogger("streamseg.inference.runtimes").setLevel("INFO")  # which one auto keeps, and why
    _show(
        parse_config({"model": model}, where="bench").model,
        source,
        sizes=sizes,
        seconds=seconds,
        as_json=as_json,
    )


def _sizes(text: str) -> list[int]:
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= size <= 256 for size in sizes):
        raise UsageError(f"--batches {text}: allowed are numbers from 1 to 256 with commas between them")
    return sizes


def _show(model: ModelConfig, source: str, *, sizes: list[int], seconds: float, as_json: bool) -> None:
    from streamseg.runtime.bench import measure_batches, measure_program, read_pictures

    pictures = read_pictures(source)
    report: dict[str, Any] = {"model": _describe(model), "source": source}
    if not as_json:
        header = "".join(f"{name:>13}" for name in ("frames/s", *_STAGES))
        sys.stdout.write(f"{report['model']}\n{'':24}{header}   milliseconds of a frame\n")
    for size, speed in measure_batches(model, pictures, sizes=sizes, seconds=seconds):
        _add(report, f"batches of {size}", speed, as_json=as_json)
    _add(report, "whole program", measure_program(model, source), as_json=as_json)
    if as_json:
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")


def _describe(model: ModelConfig) -> str:
    """What runs, and on what."""
    import torch

    from streamseg.cli.describe import describe_model
    from streamseg.inference.devices import choose_device, choose_precision
    from streamseg.models.weights.files import find_weights, read_spec

    device = choose_device(one_device(model))
    precision = str(choose_precision(model.precision, device)).removeprefix("torch.")
    if device.type == "cpu" and model.runtime != "torch":
        precision = f"runtime {model.runtime}"
    place = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    spec = read_spec(find_weights(model.weights))
    return f"{model.weights}: {describe_model(spec)}; {device} ({place}), {precision}"


def _add(report: dict[str, Any], name: str, speed: "Speed", *, as_json: bool) -> None:
    milliseconds = {stage: round(speed.milliseconds(stage), 2) for stage in _STAGES}
    report[name] = {
        "frames": speed.frames,
        "frames_per_second": round(speed.rate, 2),
        "instances_per_frame": round(speed.instances / speed.frames, 2),
        "milliseconds": milliseconds,
    }
    if not as_json:
        of_stages = "".join(f"{value:13.1f}" for value in milliseconds.values())
        sys.stdout.write(f"{name:24}{speed.rate:13.1f}{of_stages}\n")
        sys.stdout.flush()
