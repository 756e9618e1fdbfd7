"""The network in one runtime gives what it gives in another, and a runtime that cannot be had is named."""

import copy
import logging
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamseg.errors import ConfigError
from streamseg.inference import Segmenter
from streamseg.inference.runtimes import choice
from streamseg.inference.runtimes.graph_check import check_equal
from streamseg.inference.runtimes.onnx_network import OnnxRuntimeNetwork
from streamseg.inference.runtimes.openvino_network import OpenVinoNetwork
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors
from streamseg.models.nets.folded import folded_copy
from streamseg.models.onnx.graph_files import cached_graph, read_graph, shipped_graph
from streamseg.models.spec import InputSpec
from streamseg.models.weights.files import bundled_weights, find_weights, load_detector
from tests.support.program import ROOT, STREET
from tests.support.tiny import tiny_spec

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "FOUND_FASTEST", {})


@pytest.fixture(scope="module")
def demo() -> Detector:
    return folded_copy(load_detector(find_weights("demo")))


@pytest.fixture
def pictures() -> list[NDArray[np.uint8]]:
    with av.open(str(STREET)) as container:
        frames = islice(container.decode(video=0), 0, 60, 20)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def tiny() -> Detector:
    torch.manual_seed(0)
    spec = tiny_spec("decoupled_solo").model_copy(update={"input": InputSpec(canvas=(64, 96))})
    return Detector(spec).eval()


def test_every_bundled_model_has_a_graph_that_fits_its_weights() -> None:
    """If not: ``python -m streamseg.models.onnx.graph`` makes them again."""
    for weights in bundled_weights().values():
        detector = folded_copy(load_detector(weights))
        graph = shipped_graph(detector.spec).read_bytes()
        OnnxRuntimeNetwork(detector, graph)
        OpenVinoNetwork(detector, graph, compute=torch.float32)


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_agree(demo: Detector, batch: int) -> None:
    graph = read_graph(demo.spec)
    assert graph is not None
    images = torch.randn(batch, 3, 448, 512)
    expected = batch_tensors(demo(images))
    half = OpenVinoNetwork(demo, graph, compute=torch.bfloat16)
    check_equal(batch_tensors(OnnxRuntimeNetwork(demo, graph)(images)), expected, torch.float32)
    check_equal(batch_tensors(half(images)), expected, torch.bfloat16)


@pytest.mark.parametrize("kind", [OnnxRuntimeNetwork, OpenVinoNetwork])
def test_the_same_instances_are_found(kind: type, pictures: list[NDArray[np.uint8]]) -> None:
    name = {OnnxRuntimeNetwork: "onnxruntime", OpenVinoNetwork: "openvino"}[kind]
    torch_, other = (
        Segmenter.load("demo", device="cpu", precision="fp32", runtime=runtime) for runtime in ("torch", name)
    )
    assert isinstance(other._network, kind)
    for picture in pictures:
        expected, found = torch_(picture), other(picture)
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert (found.masks() != expected.masks()).mean() < 1e-4


def test_a_graph_of_another_network_gives_no_results(
    demo: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    graph = read_graph(demo.spec)
    assert graph is not None
    other = folded_copy(tiny())
    cached_graph(other.spec).parent.mkdir(parents=True)
    cached_graph(other.spec).write_bytes(graph)
    network = choice.choose_network(other, device=CPU, precision="fp32", runtime="onnxruntime")
    assert isinstance(network, TorchNetwork)
    assert caplog.text.count("\n") == 1
    assert "the network runs in torch: onnxruntime cannot run it" in caplog.text


def test_a_graph_whose_numbers_are_wrong_is_refused(demo: Detector) -> None:
    graph = read_graph(demo.spec)
    assert graph is not None
    changed = copy.deepcopy(demo)
    hook = changed.head.mask_feature.register_forward_hook(lambda _, __, value: value + 0.1)
    with pytest.raises(RuntimeError, match=r"differ from the network's by 0\.1"):
        OnnxRuntimeNetwork(changed, graph)
    hook.remove()


@torch.inference_mode()
def test_a_batch_does_not_change_the_one_before(demo: Detector) -> None:
    graph = read_graph(demo.spec)
    assert graph is not None
    network = OpenVinoNetwork(demo, graph, compute=torch.float32)
    images = torch.randn(2, 3, 448, 512)
    first = batch_tensors(network(images[:1]))
    kept = [tensor.clone() for tensor in first]
    network(images[1:])
    assert all(torch.equal(*pair) for pair in zip(first, kept, strict=True))


@torch.inference_mode()
def test_a_graph_is_made_where_it_is_named_and_kept_for_the_next_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It serves every runtime."""
    caplog.set_level(logging.INFO, logger="streamseg")
    detector = tiny()
    silent = choice.choose_network(detector, device=CPU, precision="fp32", runtime="auto")
    assert isinstance(silent, TorchNetwork), "auto does not wait for it"
    assert not caplog.records
    made = choice.choose_network(detector, device=CPU, precision="auto", runtime="onnxruntime")
    assert isinstance(made, OnnxRuntimeNetwork)
    assert "graph was made in" in caplog.text
    assert [path.name for path in cached_graph(detector.spec).parent.iterdir()] == [
        cached_graph(detector.spec).name
    ]
    caplog.clear()
    choice.choose_network(detector, device=CPU, precision="fp32", runtime="auto")
    assert "torch (fp32) " in caplog.text, "now auto measures them all"
    assert "onnxruntime (fp32) " in caplog.text
    assert "openvino (fp32) " in caplog.text
    images = torch.randn(5, 3, 64, 96)
    expected = batch_tensors(detector(images))
    check_equal(batch_tensors(made(images)), expected, torch.float32)
    also = choice.choose_network(detector, device=CPU, precision="fp32", runtime="openvino")
    assert isinstance(also, OpenVinoNetwork)
    check_equal(batch_tensors(also(images)), expected, torch.float32)


@pytest.mark.parametrize(
    ("took", "kept"),
    [
        ([30, 20, 25], OnnxRuntimeNetwork),
        ([30, 25, 20], OpenVinoNetwork),
        ([20, 30, 30], TorchNetwork),
        ([21, 20, 19], TorchNetwork),
    ],
)
def test_auto_keeps_the_fastest_one_and_says_so(
    took: list[int], kept: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    turns = iter([took])
    monkeypatch.setattr(choice, "measure_by_turns", lambda *_: next(turns))
    segmenter = Segmenter.load("demo", device="cpu", precision="fp32")
    assert isinstance(segmenter._network, kept)
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == (
        f"the network runs in {segmenter.runtime}; of a picture take: torch (fp32) {took[0]:.1f} ms, "
        f"onnxruntime (fp32) {took[1]:.1f} ms, openvino (fp32) {took[2]:.1f} ms"
    )
    again = Segmenter.load("demo", device="cpu", precision="fp32")
    assert isinstance(again._network, kept), "what was found holds for the process"
    assert len(caplog.records) == 1, "and is not measured again"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_holds_for_every_runtime(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime, which has no bf16, takes no part where that is asked for."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(choice, "measure_by_turns", lambda networks, _: [1.0] * len(networks))
    Segmenter.load("demo", device="cpu", precision=precision)
    assert f"openvino ({precision})" in caplog.text
    assert ("onnxruntime" in caplog.text) == (precision == "fp32")


def test_both_are_measured() -> None:
    networks = [TorchNetwork(folded_copy(tiny()), device=CPU, dtype=torch.float32) for _ in range(2)]
    times = choice.measure_by_turns(networks, torch.randn(2, 3, 64, 96))
    assert all(0 < milliseconds < 60_000 for milliseconds in times)


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime", "openvino"])
def test_without_the_package_torch_runs(
    runtime: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for package, module in (("onnxruntime", "onnx_network"), ("openvino", "openvino_network")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"streamseg.inference.runtimes.{module}")
    segmenter = Segmenter.load("demo", device="cpu", runtime=runtime)
    assert isinstance(segmenter._network, TorchNetwork)
    told = [r.getMessage() for r in caplog.records]
    expected = [f"the network runs in torch: {runtime} needs the package {runtime}"]
    assert told == (expected if runtime != "auto" else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tvm"}, "runtime: Input should be 'auto', 'torch', 'onnxruntime' or 'openvino'"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "computes in fp32 only, the precision is 'bf16'"),
    ],
)
def test_mistakes_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmenter.load("demo", device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_beside_torch_are_for_a_cpu(runtime: str) -> None:
    with pytest.raises(ConfigError, match=f"{runtime}' computes on a CPU only, the device is cuda:0"):
        choice.choose_network(tiny(), device=torch.device("cuda:0"), precision="auto", runtime=runtime)


_DROPPED_IN_ANOTHER_THREAD = """
import gc, signal, threading
import numpy as np
from streamseg.inference import Segmenter

signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
kept = [Segmenter.load("demo", device="cpu", runtime="openvino")]
kept[0](np.zeros((64, 64, 3), np.uint8))
dropping = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
dropping.start()
dropping.join()
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_model_that_is_dropped_in_another_thread_leaves_signals_alone() -> None:
    """A processor with AMX is needed to see it fail: the signal killed the process."""
    command = [sys.executable, "-c", _DROPPED_IN_ANOTHER_THREAD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    from streamseg.models.onnx.graph_files import keep_graph

    keep_graph(tiny().spec, b"graph")
    assert read_graph(tiny().spec) is None


def test_a_detector_may_be_trained_on_after_it_segmented() -> None:
    detector = tiny().train()
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    Segmenter(detector, name="tiny", device="cpu", precision="bf16")(np.zeros((64, 96, 3), np.uint8))
    assert detector.training
    for name, value in detector.state_dict().items():
        assert torch.equal(value, state[name]), name
