"""Exported files give in ONNX Runtime what PyTorch gives."""

import json
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamseg.cli import main
from streamseg.errors import UsageError
from streamseg.inference import Segmenter
from streamseg.models.input_size import geometry, resize_picture
from streamseg.models.nets.deformable import DeformableConv2d
from streamseg.models.nets.detector import Detector
from streamseg.models.onnx.export import _linspace, export_onnx
from streamseg.models.onnx.network import OnnxNetwork
from streamseg.models.spec import ModelSpec, TestSpec
from streamseg.models.weights.files import save_weights
from tests.support.detect import detect
from tests.support.enlarge import enlarge
from tests.support.lively import GRIDS, VARIANTS, make_detector, shake
from tests.support.prepared import network_input
from tests.support.program import ROOT, STREET, read_video

# The tracer alone needs half a minute where other tests run beside it.
pytestmark = pytest.mark.timeout(300)

CANDIDATES = 20
Outputs = Sequence[NDArray[np.generic]]


def make_pictures(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Canvases of coarse random squares, and the sizes of the part that counts."""
    generator = torch.Generator().manual_seed(height)
    squares = torch.randint(0, 256, (batch, height // 8, width // 8, 3), generator=generator)
    images = squares.to(torch.uint8).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    sizes = torch.tensor([[height - 13 * i, width - 20 - i] for i in range(batch)])
    return images, sizes


def in_pytorch(detector: Detector, images: Tensor, sizes: Tensor) -> Outputs:
    with torch.no_grad():
        return [x.numpy() for x in OnnxNetwork(detector, candidates=CANDIDATES)(images, sizes)]


def in_onnx_runtime(model: onnx.ModelProto, images: Tensor, sizes: Tensor) -> Outputs:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: Outputs = session.run(None, {"images": images.numpy(), "sizes": sizes.numpy()})
    return outputs


def assert_same(ours: Outputs, expected: Outputs) -> None:
    class_ids, scores, masks = ours
    assert (scores > 0).sum(axis=1).min() >= 3, "weights that find nothing test nothing"
    np.testing.assert_array_equal(class_ids, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)
    np.testing.assert_allclose(masks, expected[2], atol=1e-4)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_network_of_fixed_size_equals_the_postprocessing(variant: str, kernel: str) -> None:
    """The network that is exported, in PyTorch, against the code that the program runs."""
    test = TestSpec.model_validate(
        {
            "kernel": kernel,
            "max_candidates": CANDIDATES,
            "nms_pre": 15,
            "max_instances": 8,
            "filter_threshold": 0.0,
        }
    )
    detector = make_detector(**VARIANTS[variant], test=test)
    images, sizes = make_pictures(2, 192, 160)
    pictures = [image[:height, :width].numpy() for image, (height, width) in zip(images, sizes, strict=True)]
    with torch.no_grad():
        output = detector(network_input(pictures, detector.spec.input, (192, 160)))
    class_ids, scores, masks = in_pytorch(detector, images, sizes)
    for image, expected in enumerate(detect(detector, output)):
        n = int((expected.scores > 0).sum())
        assert n == (scores[image] > 0).sum() >= 3
        assert class_ids[image, :n].tolist() == expected.class_ids[:n].tolist()
        np.testing.assert_allclose(scores[image, :n], expected.scores[:n], atol=1e-4)
        np.testing.assert_allclose(masks[image, :n], expected.soft_masks[:n], atol=1e-4)
        assert (class_ids[image, n:] == -1).all()
        assert not masks[image, n:].any()


# Windows: the bundled weights. A backbone of deformable convolutions would keep the tracer busy for half a
# minute; what becomes of each of them, the next test says.
@pytest.mark.parametrize("variant", ["solo", "decoupled light, DCN", "solov2"])
def test_one_file_for_every_size(variant: str) -> None:
    detector = make_detector(**VARIANTS[variant])
    model = export_onnx(detector, name="tiny", candidates=CANDIDATES)
    for batch, height, width in ((1, 192, 128), (3, 96, 224)):
        pictures = make_pictures(batch, height, width)
        found = in_onnx_runtime(model, *pictures)
        stride = detector.spec.mask_strides[0]
        assert found[2].shape == (batch, CANDIDATES, height // stride, width // stride)
        assert_same(found, in_pytorch(detector, *pictures))
    assert_holds_no_grid_of_masks(model)


@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_an_open_number_of_coordinates_is_as_torch_has_them(steps: int) -> None:
    """Also one, on a canvas of less than twice the coarsest stride: no mask is NaN for it."""
    torch.testing.assert_close(_linspace(-1, 1, steps), torch.linspace(-1, 1, steps))


def assert_holds_no_grid_of_masks(model: onnx.ModelProto) -> None:
    for value in model.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert len(dims) != 4 or dims[1] not in {grid**2 for grid in GRIDS}


def test_deformable_convolutions_equal_the_operator() -> None:
    torch.manual_seed(0)
    both = nn.ModuleList(DeformableConv2d(8, 4, version=v, stride=2, groups=2) for v in (1, 2)).eval()
    for conv in both:
        shake(conv)
    x = torch.randn(2, 8, 11, 14)
    program = torch.onnx.export(Each(both).eval(), (x,), dynamo=True, verbose=False, opset_version=20)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        for found, conv in zip(outputs, both, strict=True):
            np.testing.assert_allclose(found, conv(x).numpy(), atol=1e-5)


class Each(nn.Module):
    """What each of some layers makes of one input."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.layers]


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights, exported as a user does it."""
    path = tmp_path_factory.mktemp("export") / "demo.onnx"
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["export", str(path), "--height", "448", "--width", "512", "--max-candidates", "400"])
    assert (code, err.getvalue()) == (0, "")
    (line,) = out.getvalue().splitlines()
    assert re.search(r"demo.onnx: 6.\d MB, opset 20, images \(batch, 448, 512, 3\) uint8 RGB$", line)
    assert [p.name for p in path.parent.iterdir()] == ["demo.onnx"]
    return path


def test_the_demo_weights_find_the_same_in_a_frame(demo_file: Path) -> None:
    frame = read_video(STREET).first
    segmenter = Segmenter.load("demo", device="cpu", precision="fp32", score=0.0)
    expected = segmenter(frame)
    sizes = geometry(*frame.shape[:2], segmenter.spec.input)
    canvas = np.full((1, *sizes.canvas, 3), 77, dtype=np.uint8)  # what is beside the picture is ignored
    canvas[0, : sizes.resized[0], : sizes.resized[1]] = resize_picture(frame, sizes.resized)
    session = onnxruntime.InferenceSession(demo_file)
    class_ids, scores, masks = session.run(
        None, {"images": canvas, "sizes": np.array([sizes.resized], dtype=np.int64)}
    )
    n = int((expected.scores >= 0.2).sum())  # below, a pixel at the threshold can change the order
    assert n > 3
    assert class_ids[0, :n].tolist() == expected.class_ids[:n].tolist()
    np.testing.assert_allclose(scores[0, :n], expected.scores[:n], atol=1e-3)
    threshold = float(session.get_modelmeta().custom_metadata_map["mask_threshold"])
    boxes, _ = enlarge(masks[0, :n], sizes, threshold=threshold)
    assert np.abs(boxes - expected.boxes[:n]).max() <= 1


def test_the_file_describes_itself(demo_file: Path) -> None:
    session = onnxruntime.InferenceSession(demo_file)
    facts = session.get_modelmeta().custom_metadata_map
    spec = ModelSpec.model_validate_json(facts["spec"])
    assert facts["architecture"] == spec.architecture == "solov2"
    assert json.loads(facts["classes"]) == list(spec.classes)
    assert json.loads(facts["input"])["mean"] == list(spec.input.mean)
    assert float(facts["filter_threshold"]) == spec.test.filter_threshold
    assert (facts["canvas"], facts["candidates"]) == ("512x448", "400")
    assert "sizes" in facts["usage"]
    assert "filter_threshold" in facts["remains"]
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "images": ["batch", 448, 512, 3],
        "sizes": ["batch", 2],
        "class_ids": ["batch", 100],
        "scores": ["batch", 100],
        "masks": ["batch", 100, 112, 128],
    }
    assert str(ROOT).encode() not in demo_file.read_bytes(), "paths of the machine it was made on"
    onnx.checker.check_model(demo_file, full_check=True)


def save_tiny_weights(folder: Path, **head: object) -> str:
    spec = make_detector("solo").spec
    spec = spec.model_copy(update={"head": spec.head.model_copy(update=head)})
    path = folder / "tiny.safetensors"
    save_weights(Detector(spec), path, notes={})
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--weights", "nowhere", "a.onnx"], "weights 'nowhere': no such file"),
        (["no/a.onnx"], "no/a.onnx: there is no folder no"),
        (["a.onxx"], "a.onxx: the name must end in .onnx"),
        (["folder.onnx"], "folder.onnx: is a folder"),
        (["--height", "64", "a.onnx"], "--height and --width belong together"),
        (["--height", "352", "--width", "470", "a.onnx"], "both must be multiples of 32 and at least 128"),
        (["--height", "32", "--width", "64", "a.onnx"], "both must be multiples of 32 and at least 128"),
        (["--height", "0", "--width", "0", "a.onnx"], "both must be multiples of 32 and at least 128"),
        (["--max-candidates", "0", "a.onnx"], "--max-candidates"),
        (["--opset", "9", "a.onnx"], "opset 9: this model can be written in 18 to"),
        (["--opset", "ten", "a.onnx"], "'ten' is not a valid integer"),
        ([], "Missing argument 'OUT.onnx'"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.onnx").mkdir()
    assert main(["export", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_model_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save_tiny_weights(tmp_path, alignment="adaptive_pool")
    assert main(["export", "--weights", weights, f"{tmp_path}/a.onnx"]) == 2
    assert "head.alignment adaptive_pool: only interpolate can be exported" in capsys.readouterr().err


def test_deformable_convolutions_need_a_newer_opset() -> None:
    with pytest.raises(UsageError, match="opset 18: this model can be written in 19 to"):
        export_onnx(make_detector(**VARIANTS["solov2, DCN"]), name="tiny", opset=18)


def test_without_the_packages_it_is_said_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", f"{tmp_path}/a.onnx"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: export needs onnxscript: pip install 'streamseg[export]'"


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamseg.models.onnx.export.export_onnx", lambda *_, **__: onnx.ModelProto())
    monkeypatch.setattr(Path, "write_bytes", fail)
    assert main(["export", f"{tmp_path}/a.onnx"]) == 1
    assert "a.onnx: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
