"""The bare network as an ONNX graph without weights, for a runtime that is given them at every start.

One graph serves all weights of an architecture, and is small (140 kB for the bundled model, whose weights
take 7.5 MB in float32). ``python -m streamseg.models.onnx.graph`` makes those that come with the package
again. The module needs the packages of the extra ``export``.
"""

import copy
import logging

import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn
from torch.export import Dim

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors
from streamseg.models.nets.folded import folded_copy
from streamseg.models.onnx.export import DEFAULT_OPSET, OpenSizes, dynamic_sides, example_size, without_notes
from streamseg.models.onnx.graph_files import INPUT, WEIGHTS, shipped_graph
from streamseg.models.weights.files import bundled_weights, load_detector

logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # it tells of every tensor that it merges


def export_graph(detector: Detector) -> bytes:
    """Translate a detector on the CPU in float32 and evaluation mode; takes 10 to 30 seconds.

    The graph takes ``images`` (B, 3, H, W) float32, normalised, of any B; H and W are those of the model's
    canvas, or multiples of 32 if it has none. It gives what
    :func:`~streamseg.models.nets.flat.batch_tensors` lists. Its initializers ``detector.NAME`` are external:
    tensors of the detector that have to be handed to the session.
    """
    detector = _with_other_weights(detector)
    canvas = detector.spec.input.canvas
    sides = {} if canvas else dynamic_sides(detector.spec, first=2)
    example = torch.zeros((2, 3, *(canvas or example_size(detector.spec))))
    with torch.no_grad(), OpenSizes():
        program = torch.export.export(
            _Bare(detector).eval(), (example,), dynamic_shapes=({0: Dim("batch"), **sides},)
        )
    # Not optimised: what the exporter computes of weights beforehand would hold of these weights only.
    written = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=DEFAULT_OPSET,
        input_names=[INPUT],
        optimize=False,
    )
    assert written is not None
    model = written.model_proto
    without_notes(model)
    _leave_weights_out(model, detector.state_dict())
    return bytes(model.SerializeToString())


class _Bare(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(batch_tensors(self.detector(images)))


def _with_other_weights(detector: Detector) -> Detector:
    """A copy with noise for weights: the exporter merges tensors that happen to be equal."""
    noisy = copy.deepcopy(detector)
    generator = torch.Generator().manual_seed(0)
    for tensor in noisy.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return noisy


def _leave_weights_out(model: ModelProto, state: dict[str, Tensor]) -> None:
    """Make all of ``state`` external."""
    model.graph.ClearField("value_info")
    for tensor in model.graph.initializer:
        if tensor.name.removeprefix(WEIGHTS) in state:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="weights file")


def main() -> None:
    """Write the graphs of the bundled models into the package."""
    for weights in bundled_weights().values():
        detector = folded_copy(load_detector(weights))
        path = shipped_graph(detector.spec)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(export_graph(detector))


if __name__ == "__main__":
    main()
