"""The network in OpenVINO, on a CPU. Needs the packages ``openvino`` and ``onnx``."""

from collections.abc import Mapping

import openvino
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from streamseg.inference.devices import PRECISION_NAMES
from streamseg.inference.runtimes.graph_check import check_equal, example_batch
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.head import HeadOutput
from streamseg.models.onnx.graph_files import WEIGHTS

_CORE = openvino.Core()
"""Of the process, to its end. With AMX, OpenVINO gives the thread that compiles first a stack for signals,
and frees it with the last model, in whatever thread: the next signal would kill the process."""
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoNetwork:
    """A graph of :mod:`streamseg.models.onnx.graph` at work with a detector's weights.

    Takes and gives float32, whatever it computes in.
    """

    dtype = torch.float32

    @torch.inference_mode()
    def __init__(self, folded: Detector, graph: bytes, *, compute: torch.dtype) -> None:
        """``folded`` is on the CPU in float32; ``compute`` is float32 or bfloat16.

        Raises RuntimeError if the graph is not of this network.
        """
        self.runtime = f"openvino ({PRECISION_NAMES[compute]})"
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[compute],
            # Threads that are bound to a core wait there for decoders, torch and the other outputs.
            "ENABLE_CPU_PINNING": False,
        }
        model = _CORE.read_model(_with_weights(graph, folded.state_dict()))
        self._request = _CORE.compile_model(model, "CPU", settings).create_infer_request()
        noise = example_batch(folded.spec)
        self._template = folded(noise)
        check_equal(batch_tensors(self(noise)), batch_tensors(self._template), compute)

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) float32, normalised -> logits."""
        # Shared is what goes in. What comes out is a copy: the next batch overwrites the original.
        values = self._request.infer([images.contiguous().numpy()], share_inputs=True).to_tuple()
        output: HeadOutput = with_tensors(self._template, [torch.from_numpy(value) for value in values])
        return output


def _with_weights(graph: bytes, state: Mapping[str, Tensor]) -> bytes:
    """OpenVINO reads weights out of the graph only."""
    model = ModelProto.FromString(graph)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = state[tensor.name.removeprefix(WEIGHTS)].contiguous().numpy().tobytes()
    return bytes(model.SerializeToString())
