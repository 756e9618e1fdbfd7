"""The network in ONNX Runtime, on a CPU in float32. Needs the package ``onnxruntime``."""

import onnxruntime
import torch
from torch import Tensor

from streamseg.models.input_size import INPUT_MULTIPLE
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.head import HeadOutput
from streamseg.models.onnx.graph_files import INPUT, WEIGHTS

RTOL, ATOL = 1e-3, 2e-3
"""How far a value may be from torch's: logits reach 10, and boxes 500 pixels. The bundled model's outputs
differ by 2e-4."""
_JUMPS = 1e-3
"""Share of values that may be farther: a cell is hidden where a distractor's logit is above all others, and
rounding decides between two that are nearly equal."""


class OnnxRuntimeNetwork:
    """A graph of :mod:`streamseg.models.onnx.graph` at work with a detector's weights."""

    dtype = torch.float32

    @torch.inference_mode()
    def __init__(self, folded: Detector, graph: bytes) -> None:
        """``folded`` is on the CPU in float32. Raises RuntimeError if the graph is not of this network."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from decoders, torch and the other outputs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; what it warns of is about its own graph
        # What only the post-processing needs is not in the graph, and would be refused.
        state = {
            name: tensor
            for name, tensor in folded.state_dict().items()
            if f"{WEIGHTS}{name}".encode() in graph
        }
        options.add_external_initializers(
            [f"{WEIGHTS}{name}" for name in state],
            [onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy()) for tensor in state.values()],
        )
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        canvas = folded.spec.input.canvas or (4 * INPUT_MULTIPLE, 6 * INPUT_MULTIPLE)
        noise = torch.randn((1, 3, *canvas), generator=torch.Generator().manual_seed(0))
        self._template = folded(noise)
        check_equal(batch_tensors(self(noise)), batch_tensors(self._template))

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) float32, normalised -> logits."""
        values = self._session.run(None, {INPUT: images.contiguous().numpy()})
        output: HeadOutput = with_tensors(self._template, [torch.from_numpy(value) for value in values])
        return output


def check_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    """A graph of another version of the network must not give results: RuntimeError."""
    if len(ours) != len(expected) or any(a.shape != b.shape for a, b in zip(ours, expected, strict=True)):
        raise RuntimeError("the graph has other outputs than the network")
    for a, b in zip(ours, expected, strict=True):
        if float((~torch.isclose(a, b, rtol=RTOL, atol=ATOL)).float().mean()) > _JUMPS:
            raise RuntimeError(f"the graph's outputs differ from the network's by {(a - b).abs().max():.3g}")
