"""The network in OpenVINO, on a CPU. Needs the packages ``openvino`` and ``onnx``."""

from collections.abc import Mapping

import openvino
import torch
from onnx import ModelProto, TensorProto
from openvino.preprocess import PrePostProcessor
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
        model = _channels_last(_CORE.read_model(_with_weights(graph, folded.state_dict())))
        self._compiled = _CORE.compile_model(model, "CPU", settings)
        noise = example_batch(folded.spec)
        self._template = folded(noise)
        check_equal(batch_tensors(self(noise)), batch_tensors(self._template), compute)

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) float32, normalised -> logits."""
        pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
        # Nothing is copied: a request of its own for each batch, whose memory lives as long as the output.
        # Against one request and copies it takes 5 % off the bundled network's time.
        request = self._compiled.create_infer_request()
        values = request.infer([pictures], share_inputs=True, share_outputs=True).to_tuple()
        maps = [torch.from_numpy(value).permute(0, 3, 1, 2) for value in values]
        output: HeadOutput = with_tensors(self._template, maps)
        return output


def _channels_last(model: openvino.Model) -> openvino.Model:
    """Let pictures come and maps go in the order in memory that torch and OpenVINO compute in.

    To change it twice takes a fifth of the bundled network's time.
    """
    change = PrePostProcessor(model)
    for end in (change.input(), *(change.output(k) for k in range(len(model.outputs)))):
        end.tensor().set_layout(openvino.Layout("NHWC"))
        end.model().set_layout(openvino.Layout("NCHW"))
    return change.build()


def _with_weights(graph: bytes, state: Mapping[str, Tensor]) -> bytes:
    """OpenVINO reads weights out of the graph only."""
    model = ModelProto.FromString(graph)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = state[tensor.name.removeprefix(WEIGHTS)].contiguous().numpy().tobytes()
    return bytes(model.SerializeToString())
