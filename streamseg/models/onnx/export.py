"""Detectors as ONNX files.

A file takes uint8 pictures and gives scored soft masks after Matrix NMS; see
:class:`~streamseg.models.onnx.network.OnnxNetwork` for its inputs and outputs. A program that runs the file
resizes the picture to fit the canvas before, and does afterwards what :data:`REMAINS` says. The module needs
the packages of the extra ``export``.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import torch
from onnx import ModelProto
from onnx.defs import onnx_opset_version
from torch import Tensor
from torch.export import Dim
from torch.overrides import TorchFunctionMode

from streamseg.errors import UsageError
from streamseg.models.input_size import INPUT_MULTIPLE
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folded import folded_copy
from streamseg.models.onnx.network import OnnxNetwork
from streamseg.models.spec import ModelSpec

FORMAT = "streamseg-onnx-1"
INPUTS = ("images", "sizes")
OUTPUTS = ("class_ids", "scores", "masks")
DEFAULT_OPSET = 20
_OPSETS = (18, 25)
"""First and last one that torch writes; DeformConv came with 19."""

USAGE = (
    "images: uint8 RGB (batch, height, width, 3), the canvases; resize each picture, ratio kept, to fit its "
    "canvas and put it in the upper left corner. sizes: int64 (batch, 2), height and width of the resized "
    "pictures. Normalisation is inside, what lies beside a picture is ignored. class_ids: int64 (batch, "
    "instances), -1 in an empty slot. scores: float32 (batch, instances), best first, after maskness and "
    "Matrix NMS, 0 in an empty slot. masks: float32 (batch, instances, h, w) in 0..1 over the canvas."
)
REMAINS = (
    "Drop scores below filter_threshold; resize the masks to the canvas (bilinear, half-pixel centres), cut "
    "the padding off, resize to the source picture, and take what is above mask_threshold."
)


def export_onnx(
    detector: Detector,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    candidates: int | None = None,
    opset: int = DEFAULT_OPSET,
) -> ModelProto:
    """Translate a detector in evaluation mode.

    Args:
        detector: The detector, on the CPU in float32.
        name: Of the model, in the file.
        size: Height and width of the canvas, which are then fixed. If not given, the file takes any height
            and width that are multiples of 32, from twice the coarsest level's stride on (128 for the bundled
            model, 64 for the published ones). The batch may always be of any size.
        candidates: How many candidates get a mask, 1 or more; as many as enter Matrix NMS if not given.
            Time and memory grow with it. Of more candidates the most probable ones are taken.
        opset: Version of ONNX's operators.

    Raises:
        UsageError: What is asked for cannot be written.
    """
    test = detector.spec.test
    candidates = min(test.nms_pre, test.max_candidates) if candidates is None else candidates
    _check(detector.spec, size=size, candidates=candidates, opset=opset)
    network = OnnxNetwork(folded_copy(detector), candidates=candidates).eval()
    height, width = size or example_size(detector.spec)
    example = (
        torch.zeros((2, height, width, 3), dtype=torch.uint8),
        torch.tensor([[height, width]] * 2),
    )
    with torch.no_grad(), OpenSizes():
        program = torch.export.export(
            network, example, dynamic_shapes=_dynamic_shapes(detector.spec, fixed=size is not None)
        )
    written = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=INPUTS,
        output_names=OUTPUTS,
    )
    assert written is not None
    model = written.model_proto
    without_notes(model)
    _name_open_sizes(model)
    _describe(model, detector.spec, name=name, size=size, candidates=network.candidates)
    _verify(model, size=size, opset=opset)
    return model


def _check(spec: ModelSpec, *, size: tuple[int, int] | None, candidates: int, opset: int) -> None:
    least = _least_side(spec)
    if size is not None and any(side % INPUT_MULTIPLE or side < least for side in size):
        raise UsageError(
            f"height {size[0]}, width {size[1]}: both must be multiples of {INPUT_MULTIPLE} and at least "
            f"{least}"
        )
    if candidates < 1:
        raise UsageError(f"--max-candidates {candidates}: must be at least 1")
    if spec.head.alignment != "interpolate":
        raise UsageError(f"head.alignment {spec.head.alignment}: only interpolate can be exported")
    first, last = _OPSETS[0] + (spec.deformable is not None), min(_OPSETS[1], onnx_opset_version())
    if not first <= opset <= last:
        raise UsageError(f"opset {opset}: this model can be written in {first} to {last}")


def _least_side(spec: ModelSpec) -> int:
    """Every map must have two pixels to a side: the coordinate channels go from -1 to 1."""
    return 2 * max(INPUT_MULTIPLE, *(level.stride for level in spec.head.levels))


def example_size(spec: ModelSpec) -> tuple[int, int]:
    """Canvas to trace with: large, so that no size is 1, and none of its maps as large as a grid.

    The heads leave resizing out where nothing changes, and the tracer would fix that case.
    """
    grids = {level.grid for level in spec.head.levels}
    strides = {level.stride for level in spec.head.levels}
    side = 4 * _least_side(spec)
    while any(side // stride in grids for stride in strides):
        side += INPUT_MULTIPLE
    return side, side + INPUT_MULTIPLE


def _dynamic_shapes(spec: ModelSpec, *, fixed: bool) -> dict[str, dict[int, Any]]:
    batch = Dim("batch")
    images = {0: batch}
    if not fixed:
        images |= dynamic_sides(spec, first=1)
    return {"images": images, "sizes": {0: batch}}


def dynamic_sides(spec: ModelSpec, *, first: int) -> dict[int, Any]:
    """Height and width of a model's canvas left open, for the dimensions ``first`` and the next."""
    least = _least_side(spec) // INPUT_MULTIPLE
    return {first + k: INPUT_MULTIPLE * Dim(name, min=least) for k, name in enumerate("hw")}


class OpenSizes(TorchFunctionMode):
    """Lets the tracer keep the number of steps of a linspace open, which it would fix otherwise."""

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.linspace and isinstance(args[2], torch.SymInt):
            return _linspace(*args)
        return func(*args, **(kwargs or {}))


def _linspace(start: float, end: float, steps: int) -> Tensor:
    numbers = torch.arange(steps, dtype=torch.float32)
    # The first is 0, also where it is the only one: 0 / 0 is none.
    parts = torch.where(numbers > 0, numbers.div(steps - 1), numbers)
    return parts.mul(end - start).add(start)


def without_notes(model: ModelProto) -> None:
    """Take out the exporter's notes: they hold paths of this machine."""
    graph = model.graph
    for part in (*graph.input, *graph.output, *graph.value_info, *graph.node, *graph.initializer):
        part.ClearField("metadata_props")
    graph.ClearField("metadata_props")


def _name_open_sizes(model: ModelProto) -> None:
    graph = model.graph
    symbols = {}
    for name, dim in zip(("batch", "h", "w"), graph.input[0].type.tensor_type.shape.dim, strict=False):
        found = re.search(r"[a-z]\w*", dim.dim_param)
        if found:
            symbols[found.group()] = name
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"[a-z]\w*", lambda match: symbols.get(match.group(), match.group()), dim.dim_param
                )


def _describe(
    model: ModelProto, spec: ModelSpec, *, name: str, size: tuple[int, int] | None, candidates: int
) -> None:
    """What a program needs to know to use the file, in its ``metadata_props``."""
    test = spec.test.model_dump()
    facts = {
        "format": FORMAT,
        "name": name,
        "architecture": spec.architecture,
        "classes": json.dumps(spec.classes),
        "canvas": f"{size[1]}x{size[0]}"
        if size
        else f"multiples of {INPUT_MULTIPLE} from {_least_side(spec)} on",
        "candidates": str(candidates),
        **{key: str(test[key]) for key in ("filter_threshold", "mask_threshold")},
        "input": spec.input.model_dump_json(),
        "spec": spec.model_dump_json(),
        "usage": USAGE,
        "remains": REMAINS,
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)


def _verify(model: ModelProto, *, size: tuple[int, int] | None, opset: int) -> None:
    """Raise UsageError if the file is of another opset: the exporter falls back without a word."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert bool(dims[1].dim_param) == bool(dims[2].dim_param) == (size is None)
    (version,) = {entry.version for entry in model.opset_import if not entry.domain}
    if version != opset:
        raise UsageError(f"opset {opset}: this model can only be written in {version}")
