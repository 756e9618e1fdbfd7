"""``streamseg export``."""

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from streamseg.cli.out_file import check_out_file
from streamseg.errors import OutputError, UsageError

EXAMPLE = "Example: streamseg export --weights demo demo.onnx"


@click.command("export", epilog=EXAMPLE)
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.onnx")
@click.option("--weights", default="demo", show_default=True, help="Bundled name or .safetensors file.")
@click.option("--height", type=int, metavar="PIXELS", help="Fix the height of the canvas (with --width).")
@click.option("--width", type=int, metavar="PIXELS", help="Fix the width of the canvas (with --height).")
@click.option(
    "--max-candidates",
    type=int,
    metavar="N",
    help="Candidates that get a mask, the most probable ones; fewer are faster.  [default: the model's, 500]",
)
@click.option("--opset", type=int, default=20, show_default=True, help="Version of ONNX's operators.")
def export(
    *, out: Path, weights: str, height: int | None, width: int | None, max_candidates: int | None, opset: int
) -> None:
    """Write a model as an ONNX file, for ONNX Runtime and others.

    The file takes the inputs images, (batch, height, width, 3) uint8 RGB, and sizes, (batch, 2) int64
    height and width of the picture in the upper left corner of each canvas. Height and width may be any
    multiples of 32 from 128 on (64 for the published models), unless --height and --width fix them. It
    returns class_ids (batch, instances), scores (batch, instances) after Matrix NMS, best first, and soft
    masks (batch, instances, h, w). The file's metadata say the rest: class names, input size, least canvas,
    thresholds, and what remains to be done.
    """
    _require_packages()
    from streamseg.files import check_writable, complete_file
    from streamseg.models.onnx.export import export_onnx
    from streamseg.models.weights.files import find_weights, load_detector

    check_out_file(out, ".onnx")
    if (height is None) != (width is None):
        raise UsageError("--height and --width belong together")
    check_writable(out)
    path = find_weights(weights)
    model = export_onnx(
        load_detector(path),
        name=path.stem,
        size=None if height is None or width is None else (height, width),
        candidates=max_candidates,
        opset=opset,
    )
    try:
        with complete_file(out) as partial:
            partial.write_bytes(model.SerializeToString())
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    shape = ", ".join(
        d.dim_param or str(d.dim_value) for d in model.graph.input[0].type.tensor_type.shape.dim
    )
    size = out.stat().st_size / 1e6
    sys.stdout.write(f"{out}: {size:.1f} MB, opset {opset}, images ({shape}) uint8 RGB\n")


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UsageError(f"export needs {' and '.join(missing)}: pip install 'streamseg[export]'")
