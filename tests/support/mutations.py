"""Media files with something wrong in them; each follows from its number alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from tests.support.media import counter_picture, write_clip

FRAMES = 30
KINDS = ("mp4", "mkv", "ts", "avi", "flv", "mov", "h264", "mjpeg.avi", "png.avi", "mpeg2.mpg", "vp8.webm")
"""Container, or codec and container; those with a name of H.264 in front hold H.264."""
ENDINGS = (".mp4", ".mkv", ".ts", ".avi", ".flv", ".mov", ".h264", ".mpg", ".webm", ".wmv", ".m2ts", ".3gp")
_CODECS = {"mjpeg": "yuvj420p", "png": "rgb24", "mpeg2": "yuv420p", "vp8": "yuv420p"}

Mutation = Callable[[bytearray, random.Random], bytearray]


@cache
def healthy(kind: str) -> bytes:
    """A clip of 30 frames, 96x64."""
    codec, _, container = kind.rpartition(".")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{container}"
        if codec:
            _encode(path, codec)
        else:
            bframes, sound = 0 if kind == "avi" else 2, 0.0 if kind == "h264" else 0.5
            write_clip(path, frames=FRAMES, width=96, height=64, bframes=bframes, sound=sound)
        return path.read_bytes()


def _encode(path: Path, codec: str) -> None:
    name = {"mpeg2": "mpeg2video", "vp8": "libvpx"}.get(codec, codec)
    with av.open(str(path), "w") as out:
        video = out.add_stream(name, rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, _CODECS[codec]
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(counter_picture(number, 96, 64), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 5, 50, 500])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_header_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 3, 10, 40])):
        data[rng.randrange(min(len(data), 1500))] ^= 1 << rng.randrange(8)
    return data


def cut_off(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.choice([0, 1, 16, rng.randrange(len(data)), rng.randrange(len(data)), len(data) - 1])]


def cut_out(data: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 100, 5000])]
    return data


def overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, count = rng.randrange(len(data)), rng.choice([4, 188, 4000])
    fill = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    data[start : start + count] = fill
    return data


def absurd_numbers(data: bytearray, rng: random.Random) -> bytearray:
    """Sizes, rates, counts and lengths in a header that no file can have."""
    for _ in range(rng.choice([1, 2, 4])):
        at = rng.randrange(min(len(data) - 4, 1200))
        width = rng.choice([2, 4])
        number = rng.choice([0, 1, 0x7FFF, 0xFFFE, 0x7FFFFFFF, 0xFFFFFFFF, 16000]) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, rng.choice(["big", "little"]))
    return data


def absurd_size(data: bytearray, rng: random.Random) -> bytearray:
    """96x64, wherever it stands, becomes something else."""
    wide, high = rng.choice([0, 1, 7, 4097, 16000, 65535]), rng.choice([0, 1, 3, 8192, 16000, 65535])
    for width in (2, 4):
        for order in ("big", "little"):
            before = [number.to_bytes(width, order) for number in (96, 64)]  # type: ignore[arg-type]
            after = [number.to_bytes(width, order) for number in (wide, high)]  # type: ignore[arg-type]
            for one, other in ((0, 1), (1, 0)):
                data = data.replace(before[one] + before[other], after[one] + after[other])
    return data


def swap_blocks(data: bytearray, rng: random.Random) -> bytearray:
    size = rng.choice([188, 512, 4096])
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    rng.shuffle(blocks)
    return bytearray().join(blocks)


def append(data: bytearray, rng: random.Random) -> bytearray:
    return data + rng.choice([data, rng.randbytes(3000), healthy(rng.choice(KINDS))])


OTHER = (
    *(b"", b"\0" * 9000, b"shopping list\n" * 300, b"\x89PNG\r\n\x1a\n", b"<?xml version='1.0'?><MPD/>"),
    *(b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", b"ffconcat version 1.0\nfile '/etc/hostname'\n"),
)


def other_content(data: bytearray, rng: random.Random) -> bytearray:
    return bytearray(rng.choice([*OTHER, rng.randbytes(5000)]))


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, flip_header_bits, cut_off, cut_out, overwrite, absurd_numbers, absurd_numbers),
    *(absurd_size, swap_blocks, append, other_content),
)


def write_mutation(folder: Path, seed: int) -> Path:
    """Write the broken file of this number; every kind meets every mutation within 121 numbers."""
    rng = random.Random(seed)
    kind, mutation = KINDS[seed % len(KINDS)], MUTATIONS[seed // len(KINDS) % len(MUTATIONS)]
    data = mutation(bytearray(healthy(kind)), rng)
    ending = rng.choice([f".{kind.rpartition('.')[2]}"] * 3 + list(ENDINGS[:3]))
    path = folder / f"m{seed:03}{ending}"
    path.write_bytes(data)
    return path
