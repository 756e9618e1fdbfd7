"""What computes the network: torch, CUDA graphs of it, or ONNX Runtime.

``choice`` decides, ``torch_network`` is the network as it is, ``graphs`` repeats it as CUDA graphs,
``onnx_network`` runs it in ONNX Runtime.
"""

from streamseg.inference.runtimes.choice import Network, choose_network

__all__ = ["Network", "choose_network"]
