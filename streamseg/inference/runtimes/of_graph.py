"""Runtimes that compute a network's graph: they are extras, and the graph may have to be made first."""

import logging
import time

import torch

from streamseg.inference.runtimes.network import Network
from streamseg.models.nets.detector import Detector
from streamseg.models.onnx.graph_files import keep_graph, read_graph

logger = logging.getLogger(__name__)

GRAPH_RUNTIMES = ("onnxruntime", "openvino")


def network_of_graph(runtime: str, folded: Detector, *, compute: torch.dtype, named: bool) -> Network | None:
    """The network in one of :data:`GRAPH_RUNTIMES`, or None, and the log says why.

    Where the runtime was not ``named`` by the user, what is missing is no warning, and no graph is made: that
    takes 10 to 30 seconds.
    """
    tell = logger.warning if named else logger.debug
    try:
        graph = read_graph(folded.spec)
        if graph is None and named:
            graph = _make_graph(folded)
        return None if graph is None else _load(runtime, folded, graph, compute)
    except ModuleNotFoundError as error:
        tell("the network runs in torch: %s needs the package %s", runtime, error.name)
    except Exception as error:  # noqa: BLE001  exporters and sessions raise whatever they like
        tell("the network runs in torch: %s cannot run it (%s)", runtime, str(error).split("\n")[0][:200])
    return None


def _load(runtime: str, folded: Detector, graph: bytes, compute: torch.dtype) -> Network:
    if runtime == "openvino":
        from streamseg.inference.runtimes.openvino_network import OpenVinoNetwork  # noqa: PLC0415  an extra

        return OpenVinoNetwork(folded, graph, compute=compute)
    from streamseg.inference.runtimes.onnx_network import OnnxRuntimeNetwork  # noqa: PLC0415  an extra

    return OnnxRuntimeNetwork(folded, graph)


def _make_graph(folded: Detector) -> bytes:
    from streamseg.models.onnx.graph import export_graph  # noqa: PLC0415  heavy, and an extra

    started = time.monotonic()
    graph = export_graph(folded)
    logger.info("the network's graph was made in %.1f s", time.monotonic() - started)
    keep_graph(folded.spec, graph)
    return graph
