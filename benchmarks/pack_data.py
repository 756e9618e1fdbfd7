"""A data set of COCO files and one folder of images as two files of at most 40 MiB, and back.

    python benchmarks/pack_data.py pack FOLDER OUT [--most 40]
    python benchmarks/pack_data.py unpack OUT FOLDER

FOLDER holds train.json, val.json and images/. Only images that one of them names are packed; they are
encoded anew, with the best JPEG quality of 70 and below that fits. OUT gets data-0.tar and data-1.tar, the
first of which holds the annotations, compressed.
"""

import argparse
import gzip
import io
import json
import sys
import tarfile
from pathlib import Path

import cv2

PARTS = 2
ANNOTATIONS = ("train.json", "val.json")
QUALITIES = (70, 60, 50, 40, 30, 20)
_BLOCK = 512
"""Bytes: a tar file rounds every entry up to this, after a header of as much."""


def names(folder: Path) -> list[str]:
    found = [
        row["file_name"] for file in ANNOTATIONS for row in json.loads((folder / file).read_text())["images"]
    ]
    return sorted(set(found))


def encode(path: Path, quality: int) -> bytes:
    picture = cv2.imread(str(path))
    if picture is None:
        sys.exit(f"{path}: cannot be read")
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def entry_size(content: bytes) -> int:
    return _BLOCK + -(-len(content) // _BLOCK) * _BLOCK


def pack(folder: Path, out: Path, *, most: int) -> None:
    annotations = {f"{file}.gz": gzip.compress((folder / file).read_bytes(), mtime=0) for file in ANNOTATIONS}
    room = PARTS * most - sum(entry_size(content) for content in annotations.values()) - PARTS * 20 * _BLOCK
    for quality in QUALITIES:
        images, size = {}, 0
        for name in names(folder):
            images[f"images/{name}"] = encode(folder / "images" / name, quality)
            size += entry_size(images[f"images/{name}"])
            if size > room:
                break
        else:
            write(annotations | images, out, most=most)
            print(f"{len(images)} images, JPEG quality {quality}, {size / 2**20:.1f} MiB")
            return
    sys.exit(f"{len(names(folder))} images do not fit into {PARTS} files of {most / 2**20:.0f} MiB")


def write(entries: dict[str, bytes], out: Path, *, most: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    left = list(entries.items())
    for part in range(PARTS):
        room = most - 20 * _BLOCK
        with tarfile.open(out / f"data-{part}.tar", "w") as archive:
            while left and entry_size(left[0][1]) <= room:
                name, content = left.pop(0)
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                room -= entry_size(content)
    if left:
        sys.exit(f"{len(left)} entries do not fit")


def unpack(out: Path, folder: Path) -> None:
    for part in range(PARTS):
        with tarfile.open(out / f"data-{part}.tar") as archive:
            archive.extractall(folder, filter="data")
    for file in ANNOTATIONS:
        packed = folder / f"{file}.gz"
        (folder / file).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("action", choices=["pack", "unpack"])
    options.add_argument("source", type=Path)
    options.add_argument("target", type=Path)
    options.add_argument("--most", type=int, default=40, help="MiB of a file")
    chosen = options.parse_args()
    if chosen.action == "pack":
        pack(chosen.source, chosen.target, most=chosen.most * 2**20)
    else:
        unpack(chosen.source, chosen.target)


if __name__ == "__main__":
    main()
