"""What computes the network: torch, CUDA graphs of it, ONNX Runtime or OpenVINO.

``choice`` decides, ``torch_network`` is the network as it is, ``graphs`` repeats it as CUDA graphs,
``of_graph`` has it computed from its graph: in ``onnx_network`` by ONNX Runtime, in ``openvino_network`` by
OpenVINO.
"""

from streamseg.inference.runtimes.choice import choose_network
from streamseg.inference.runtimes.network import Network

__all__ = ["Network", "choose_network"]
