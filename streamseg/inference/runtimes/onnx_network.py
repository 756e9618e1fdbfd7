"""The network in ONNX Runtime, on a CPU in float32. Needs the package ``onnxruntime``."""

import onnxruntime
import torch
from torch import Tensor

from streamseg.inference.runtimes.graph_check import check_equal, example_batch
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.head import HeadOutput
from streamseg.models.onnx.graph_files import INPUT, WEIGHTS


class OnnxRuntimeNetwork:
    """A graph of :mod:`streamseg.models.onnx.graph` at work with a detector's weights."""

    runtime, dtype = "onnxruntime (fp32)", torch.float32

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
        self._weights = {
            f"{WEIGHTS}{name}": onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())
            for name, tensor in folded.state_dict().items()
            if f"{WEIGHTS}{name}".encode() in graph
        }
        """Kept as long as the session: it may read them where they are."""
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        noise = example_batch(folded.spec)
        self._template = folded(noise)
        check_equal(batch_tensors(self(noise)), batch_tensors(self._template), torch.float32)

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) float32, normalised -> logits."""
        values = self._session.run(None, {INPUT: images.contiguous().numpy()})
        output: HeadOutput = with_tensors(self._template, [torch.from_numpy(value) for value in values])
        return output
