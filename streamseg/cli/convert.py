"""``streamseg convert``."""

import sys
from pathlib import Path

import click

from streamseg.cli.out_file import check_out_file
from streamseg.errors import UsageError

EXAMPLE = "Example: streamseg convert SOLOv2_R50_3x.pth solov2_r50.safetensors --half"


@click.command("convert", epilog=EXAMPLE)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT.pth")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.safetensors")
@click.option(
    "--classes",
    metavar="NAMES",
    help="Class names in the model's order, e.g. person,car.  [default: those in the file, else COCO's]",
)
@click.option("--half", is_flag=True, help="Store fp16: a file of half the size.")
def convert(*, checkpoint: Path, out: Path, classes: str | None, half: bool) -> None:
    """Make a weights file of an official checkpoint.

    CHECKPOINT.pth is one of SOLO, Decoupled SOLO or SOLOv2 from mmdetection 2.x or 3.x or from the SOLO
    authors' repository; which one is seen from its tensors. Nothing in the file is executed. What
    tensors do not tell, as the input size, is taken from the official model of the same shape.
    """
    check_out_file(out, ".safetensors", what="the name of a weights file")
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    if names is not None and not all(names):
        raise UsageError(f"--classes {classes!r}: there is an empty name")
    from streamseg.cli.describe import describe_model
    from streamseg.models.convert.detectors import convert_checkpoint
    from streamseg.models.weights.files import save_weights

    converted = convert_checkpoint(checkpoint, classes=names)
    notes = {"source": checkpoint.name, "implementation": converted.implementation}
    save_weights(converted.detector, out, half=half, notes=notes)
    spec = converted.detector.spec
    millions = sum(parameter.numel() for parameter in converted.detector.parameters()) / 1e6
    sys.stdout.write(
        f"{out}: {describe_model(spec)}, {len(spec.classes)} classes ({_few(spec.classes)}), "
        f"{millions:.2f} M parameters, from {converted.implementation}\n"
    )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 6 else [*names[:3], "..."])
