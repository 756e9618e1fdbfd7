"""What a segmenter takes for a picture, and what it says to everything else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import streamseg
from streamseg import Segmenter
from streamseg.errors import ConfigError
from streamseg.inference.pictures import to_rgb
from streamseg.models.weights.files import bundled_weights, load_detector, save_weights
from streamseg.types import Instances
from tests.support.lively import make_detector
from tests.support.program import STREET


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load("demo", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    import av

    with av.open(str(STREET)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture
def small() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_gray_is_the_same_in_all_channels(small: np.ndarray) -> None:
    gray = small[..., 0]
    expected = np.stack([gray] * 3, axis=2)
    for picture in (
        gray,
        gray[..., None],
        torch.tensor(gray),
        torch.tensor(gray)[None],
        Image.fromarray(gray),
    ):
        assert (to_rgb(picture) == expected).all()


def test_what_is_transparent_is_black(small: np.ndarray) -> None:
    alpha = np.zeros((6, 9, 1), np.uint8)
    alpha[:, 3:] = 255
    alpha[:, 6:] = 51
    rgba = np.concatenate([small, alpha], axis=2)
    found = to_rgb(rgba)
    assert (found[:, :3] == 0).all()
    assert (found[:, 3:6] == small[:, 3:6]).all()
    np.testing.assert_allclose(found[:, 6:], small[:, 6:] / 5, atol=0.5)
    assert (to_rgb(Image.fromarray(rgba)) == found).all()
    assert (to_rgb(torch.tensor(rgba).permute(2, 0, 1)) == found).all()


def test_tensors_may_have_their_channels_first_or_last(small: np.ndarray) -> None:
    tensor = torch.tensor(small)
    assert (to_rgb(tensor) == small).all()
    assert (to_rgb(tensor.permute(2, 0, 1)) == small).all()
    assert (to_rgb(tensor.permute(2, 0, 1).contiguous().requires_grad_(False)) == small).all()


def test_where_both_could_be_channels_tensors_have_them_first_and_arrays_last() -> None:
    array = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    assert (to_rgb(array) == array).all()
    assert (to_rgb(torch.tensor(array)) == array.transpose(1, 2, 0)).all()


def test_views_are_taken_as_they_look(small: np.ndarray) -> None:
    assert (to_rgb(small[::-1, ::2, ::-1]) == small[::-1, ::2, ::-1]).all()
    small.flags.writeable = False
    assert (to_rgb(small) == small).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_pil_pictures_of_any_mode(mode: str, small: np.ndarray) -> None:
    picture = Image.fromarray(small).convert(mode)
    assert (to_rgb(picture) == np.asarray(picture.convert("RGBA" if mode == "LA" else "RGB"))[..., :3]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp"])
def test_files_and_pil_pictures_are_upright(orientation: int, ending: str, tmp_path: Path) -> None:
    """The picture is stored as a camera does that is held in one of eight ways."""
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:20, :12] = 255
    turns = {1: "", 2: "h", 3: "hv", 4: "v", 5: "t", 6: "vt", 7: "hvt", 8: "ht"}[orientation]
    stored = upright
    for turn in reversed(turns):
        stored = {"h": stored[:, ::-1], "v": stored[::-1], "t": stored.transpose(1, 0, 2)}[turn]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    for picture in (to_rgb(path), to_rgb(str(path)), to_rgb(Image.open(path))):
        assert picture.shape == upright.shape
        assert np.abs(picture.astype(int) - upright).mean() < 8


@pytest.mark.parametrize(
    ("picture", "error", "said"),
    [
        (None, TypeError, "NoneType is no picture"),
        (7, TypeError, "int is no picture"),
        (b"\xff\xd8", TypeError, "bytes is no picture"),
        ({"image": 1}, TypeError, "dict is no picture"),
        (np.zeros((4, 4, 3)), TypeError, "an array of float64"),
        (np.zeros((4, 4, 3), np.float32), TypeError, "an array of float32"),
        (np.zeros((4, 4, 3), np.uint16), TypeError, "an array of uint16"),
        (np.zeros((4, 4), bool), TypeError, "an array of bool"),
        (np.zeros((4, 4, 3), object), TypeError, "an array of object"),
        (np.zeros((3, 40, 50), np.uint8), ValueError, r"an array of shape \(3, 40, 50\)"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"an array of shape \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"an array of shape \(1, 4, 4, 3\)"),
        (np.zeros(12, np.uint8), ValueError, r"an array of shape \(12,\)"),
        (np.zeros((), np.uint8), ValueError, r"an array of shape \(\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"an array of shape \(0, 4, 3\)"),
        (np.zeros((4, 0), np.uint8), ValueError, r"an array of shape \(4, 0\)"),
        (torch.zeros(3, 4, 4), TypeError, "a tensor of float32"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta"), TypeError, "a tensor without values"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ValueError, r"a tensor of shape \(2, 3, 4, 4\)"),
        (torch.zeros(2, 5, 6, dtype=torch.uint8), ValueError, r"a tensor of shape \(2, 5, 6\)"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), ValueError, r"a tensor of shape \(0, 4, 3\)"),
        (torch.eye(4).to(torch.uint8).to_sparse(), TypeError, "a tensor that is sparse"),
        (Image.new("I", (4, 4)), TypeError, "a PIL picture of mode I"),
        (Image.new("F", (4, 4)), TypeError, "a PIL picture of mode F"),
        (Image.new("I;16", (4, 4)), TypeError, "a PIL picture of mode I;16"),
        (Image.new("RGB", (0, 4)), ValueError, "a PIL picture of 0x4"),
    ],
)
def test_everything_else_is_one_error_that_says_what_is_wanted(
    picture: object, error: type[Exception], said: str, segmenter: Segmenter
) -> None:
    for what in (picture, [picture]):
        with pytest.raises(error, match=f"{said}.*wanted is uint8 .*RGB") as caught:
            segmenter(what)  # type: ignore[call-overload]
        assert "\n" not in str(caught.value)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_files_that_cannot_be_read_are_one_error(tmp_path: Path, small: np.ndarray) -> None:
    Image.fromarray(np.repeat(np.repeat(small, 9, 0), 9, 1)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
    (tmp_path / "text.png").write_text("a shopping list")
    (tmp_path / "empty.png").touch()
    for width in (9000, 12_000, 60_000):
        (tmp_path / f"bomb{width}.png").write_bytes(png_that_claims(width, width))
    expected = {
        "cut.jpg": "cannot be read",
        "text.png": "not a picture that can be read; streamseg.run takes videos",
        "empty.png": "not a picture",
        "bomb9000.png": "9000x9000 is too large, at most 64 Mi pixels",
        "bomb12000.png": "12000x12000 is too large",
        "bomb60000.png": "is too large",
        "nowhere.png": "No such file",
        ".": "Is a directory",
    }
    for name, said in expected.items():
        with pytest.raises(ValueError, match=said) as caught:
            to_rgb(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path))


def same(one: Instances, other: Instances) -> bool:
    return one.labels == other.labels and np.allclose(one.scores, other.scores, atol=1e-4)


def test_all_kinds_have_the_same_instances(segmenter: Segmenter, rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    expected = segmenter(rgb)
    assert len(expected) > 0
    for picture in (path, torch.tensor(rgb).permute(2, 0, 1), Image.fromarray(rgb)):
        assert same(segmenter(picture), expected)


def test_a_list_gives_the_instances_of_each(segmenter: Segmenter, rgb: np.ndarray) -> None:
    other = rgb[100:500, 50:750]
    pictures = [Image.fromarray(rgb), rgb, other, torch.tensor(other)]
    found = segmenter(pictures)
    for one, picture in zip(found, [rgb, rgb, other, other], strict=True):
        assert (one.height, one.width) == picture.shape[:2]
        assert same(one, segmenter(picture))
    assert segmenter([]) == []
    assert len(segmenter((other,) * 9)) == 9, "more than a batch"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": 7}, "score: Input should be less than or equal to 1"),
        ({"score": float("nan")}, "score: Input should be"),
        ({"score": "high"}, "score: Input should be a valid number"),
        ({"precision": "fp8"}, "precision: Input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ({"device": "tpu"}, "device: .*is no device; allowed are auto, cpu, cuda"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"classes": "person"}, "classes: Input should be a valid tuple"),
        ({"classes": ["persn"]}, r"class 'persn' \(did you mean person\?\): this model knows person"),
        ({"classes": []}, "classes: .*an empty list; allowed are at least one name, or null for all"),
        ({"max_instances": 0}, "max_instances: Input should be greater than or equal to 1"),
        ({"weights": None}, "weights: Input should be a valid string"),
    ],
)
def test_options_are_checked_as_in_a_configuration(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Segmenter.load(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int8"}, "precision 'int8': allowed are auto, fp32, bf16, fp16"),
        ({"classes": []}, "classes: an empty list; allowed are at least one name, or None for all"),
        ({"device": "tpu"}, "device 'tpu': allowed are auto, cpu, cuda and cuda:N"),
        ({"runtime": "tflite"}, "runtime 'tflite': allowed are auto, torch, onnxruntime, openvino"),
    ],
)
def test_a_segmenter_of_a_detector_checks_its_options_too(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Segmenter(make_detector("solo"), name="a", **({"device": "cpu"} | options))  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_the_weights_say_how_many_instances_are_kept(rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    detector = load_detector(bundled_weights()["demo"])
    test = detector.spec.test.model_copy(update={"max_instances": 3})
    detector.spec = detector.spec.model_copy(update={"test": test})
    save_weights(detector, path, notes={})
    Image.fromarray(rgb).save(tmp_path / "a.png")
    for options, expected in (({}, 3), ({"max_instances": None}, 3), ({"max_instances": 5}, 5)):
        segmenter = Segmenter.load(path, device="cpu", runtime="torch", score=0.1, **options)
        assert len(segmenter(rgb)) == expected
    for options, expected in (({}, 3), ({"max_instances": 5}, 5)):
        results = streamseg.run(
            tmp_path / "a.png", weights=str(path), device="cpu", runtime="torch", score=0.1, **options
        )
        assert [len(result.instances) for result in results] == [expected]


def test_options_may_be_paths_and_devices(tmp_path: Path) -> None:
    from streamseg.models.weights.files import bundled_weights

    assert Segmenter.load(bundled_weights()["demo"], device=torch.device("cpu")).name == "demo"
