"""Pictures of every kind that cameras and tools write, as their annotations mean them."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from streamseg.errors import UsageError
from streamseg.training.data.pictures import PictureFolder, header_size, read_image
from streamseg.training.data.splits import read_splits
from tests.support.drawn import content_of_config, draw_data, write_config

SIZE = (32, 48)
RED, BLUE = (200, 0, 0), (0, 0, 200)
FORMATS = ("jpg", "png", "webp", "tif", *(["avif"] if features.check("avif") else []))


def scene() -> NDArray[np.uint8]:
    """Red at the upper left, blue at the lower right, green elsewhere: no turn looks like another."""
    pixels = np.full((*SIZE, 3), (0, 160, 0), dtype=np.uint8)
    pixels[:16, :16], pixels[16:, 40:] = RED, BLUE
    return pixels


def as_stored(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What a camera stores of an upright scene that a viewer turns as the EXIF orientation says."""
    undone = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(undone[orientation](pixels))


def save(path: Path, pixels: NDArray[np.uint8], orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if path.suffix in {".tif", ".png"} else {"quality": 95}
    Image.fromarray(pixels).save(path, exif=exif, **options)


def assert_alike(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert np.abs(found.astype(int) - expected).mean() < 12  # the edges of a compressed picture are soft


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_stands_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, as_stored(scene(), orientation), orientation)
    assert_alike(read_image(path, SIZE), scene())
    assert header_size(path) == SIZE


@pytest.mark.parametrize("orientation", range(5, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_annotations_of_the_stored_pixels_get_those(suffix: str, orientation: int, tmp_path: Path) -> None:
    path, stored = tmp_path / f"a.{suffix}", as_stored(scene(), orientation)
    save(path, stored, orientation)
    assert_alike(read_image(path, (SIZE[1], SIZE[0])), stored)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(value: int, tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", scene(), value)
    assert_alike(read_image(tmp_path / "a.jpg", SIZE), scene())


def gray() -> NDArray[np.uint8]:
    return np.repeat(scene().max(axis=2, keepdims=True), 3, axis=2)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8(suffix: str, tmp_path: Path) -> None:
    deep = gray()[..., 0].astype(np.uint16) * 256 + 17
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}", SIZE), gray())


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    one_channel = mode in {"L", "LA"}
    source = Image.fromarray(gray() if one_channel else scene())
    path = tmp_path / ("a.tif" if mode in {"CMYK", "YCbCr"} else "a.png")
    if one_channel:
        source = source.convert("L")
    source.convert(mode).save(path)
    assert_alike(read_image(path, SIZE), gray() if one_channel else scene())


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.fromarray(scene()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert_alike(read_image(tmp_path / "a.jpg", SIZE), scene())


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    alpha = np.full(SIZE, 255, dtype=np.uint8)
    alpha[:16, :16] = 0
    expected = scene()
    expected[:16, :16] = 0
    Image.fromarray(np.dstack((scene(), alpha))).save(tmp_path / "rgba.png")
    palette = Image.fromarray(scene()).quantize(4)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    Image.fromarray(scene()).save(tmp_path / "key.png", transparency=RED)
    for name in ("rgba", "palette", "key"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png", SIZE), expected)


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    for number, kind in enumerate((np.float32, np.int32)):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(gray()[..., 0].astype(kind)).save(path)
        with pytest.raises(UsageError, match=r"has pixels of mode [FI]; allowed are 8 and 16 bits"):
            read_image(path, SIZE)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_that_was_cut_off_is_found_before_training(suffix: str, tmp_path: Path) -> None:
    draw_data(tmp_path)
    path, rng = tmp_path / f"a.{suffix}", np.random.default_rng(1)
    save(path, rng.integers(0, 255, size=(64, 96, 3), dtype=np.uint8))
    whole = path.read_bytes()
    values = content_of_config(tmp_path)
    annotations = tmp_path / "annotations.json"
    annotations.write_text(annotations.read_text().replace('"0.png"', f'"a.{suffix}"'))
    read_splits(write_config(tmp_path, values))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UsageError, match=rf"image 0: .*a\.{suffix} is not a readable image \("):
        read_splits(write_config(tmp_path, values))


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.jpg is not a readable image \("):
        read_image(tmp_path / "a.jpg", SIZE)
    assert header_size(tmp_path / "a.jpg") is None


def test_a_picture_too_large_to_decode_is_named(tmp_path: Path) -> None:
    """A header of 60,000 x 60,000 pixels: 10 GB, if it were believed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = (60_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99))
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(UsageError, match=r"a\.png is not a readable image \(Image size"):
        read_image(tmp_path / "a.png", (60_000, 60_000))


@pytest.mark.parametrize(
    "name",
    [
        "sub/a.jpg",
        "sub\\a.jpg",
        "b.jpg",
        "images/b.jpg",
        "images\\b.jpg",
        "/data/upload/3/b.jpg",
        "http://host:8080/data/upload/3/b.jpg?token=1",
        "s3://bucket/folder/b.jpg",
        "https://host/my%20picture.jpg",
    ],
)
def test_a_name_is_found_however_it_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for path in ("sub/a.jpg", "b.jpg", "my picture.jpg"):
        (tmp_path / path).touch()
    assert PictureFolder(tmp_path, [name, "other.jpg"]).find(name).is_file()


def test_a_last_part_that_two_pictures_have_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    files = PictureFolder(tmp_path, ["left/a.jpg", "right/a.jpg"])
    assert files.find("left/a.jpg") == tmp_path / "left" / "a.jpg"


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "..", "/"])
def test_a_name_that_is_none_is_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_image(PictureFolder(tmp_path, [name]).find(name), SIZE)
