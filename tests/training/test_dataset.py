"""Samples and batches: what decides them, what they look like."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamseg.errors import UsageError
from streamseg.training.config import TrainConfig
from streamseg.training.data.augment import Sample, resize_whole
from streamseg.training.data.batch import Collate, TrainingBatch, pack
from streamseg.training.data.coco import CocoImage
from streamseg.training.data.dataset import TrainingStream
from streamseg.training.data.image_cache import ImageCache, free_memory
from streamseg.training.data.loader import make_loader, read_batches
from streamseg.training.data.splits import read_splits
from streamseg.training.step import normalise
from tests.support.drawn import CANVAS, content_of_config, draw_data, make_config, write_config

CPU = torch.device("cpu")


def stream_of(config: TrainConfig, pictures: ImageCache | None = None) -> TrainingStream:
    return TrainingStream(read_splits(config).train, config, pictures or ImageCache())


def batch_of(config: TrainConfig, *numbers: int) -> TrainingBatch:
    stream = stream_of(config)
    return Collate(config)([stream[n] for n in numbers]).unpack(CPU)


def whole_image_config(folder: Path, **augment: object) -> TrainConfig:
    """The official recipe: no canvas, the image as a whole."""
    content = content_of_config(folder, frozen_stages=0)
    content["model"]["input"] = {"short_side": 64, "long_side": 120}
    content["augment"] = {"colour": 0, "copy_paste": 0} | augment
    return write_config(folder, content)


def test_samples_depend_on_their_number_alone(tmp_path: Path) -> None:
    content = content_of_config(tmp_path) | {"augment": {}}
    config = write_config(tmp_path, content)
    first, second = batch_of(config, 3, 1), batch_of(config, 3, 1)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images[0], first.images[1])
    swapped = batch_of(config, 1, 3)
    assert torch.equal(swapped.images[1], first.images[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_parts_of_a_run_are_its_samples_in_order(workers: int, tmp_path: Path) -> None:
    content = content_of_config(tmp_path, steps=3, batch=8, accumulate=2)
    config = write_config(tmp_path, content | {"workers": workers, "devices": 2, "augment": {}})
    stream = stream_of(config)
    seen = []
    for rank in range(2):
        loader = make_loader(stream, config, first=1, steps=3, rank=rank, pin=False)
        seen.append([batch.unpack(CPU).images for batch in loader])
        assert len(loader) == len(seen[-1]) == 4
    for step in (1, 2):
        parts = [seen[rank][(step - 1) * 2 + part] for part in range(2) for rank in range(2)]
        expected = batch_of(config, *range(step * 8, step * 8 + 8))
        assert torch.equal(torch.cat(parts), expected.images)


def test_shuffled_sampling_shows_every_image_once_in_an_epoch(tmp_path: Path) -> None:
    draw_data(tmp_path, images=7)
    content = content_of_config(tmp_path)
    content["data"]["sampling"] = "shuffled"
    stream = stream_of(write_config(tmp_path, content))
    epochs = [[stream[n].name for n in range(7 * e, 7 * e + 7)] for e in range(3)]
    assert all(len(set(epoch)) == 7 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_balanced_sampling_shows_rare_classes_more_often(tmp_path: Path) -> None:
    path = draw_data(tmp_path, images=40)
    content = json.loads(path.read_text())
    content["annotations"] = [
        row for row in content["annotations"] if row["category_id"] == 7 or row["image_id"] == 5
    ]
    path.write_text(json.dumps(content))
    stream = stream_of(make_config(tmp_path))
    drawn = [stream[n].name for n in range(400)]
    assert drawn.count(str(tmp_path / "5.png")) > 1.5 * 400 / 40


def test_images_without_objects_can_be_left_out(tmp_path: Path) -> None:
    path = draw_data(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]
    path.write_text(json.dumps(content))
    values = content_of_config(tmp_path)
    assert len(read_splits(write_config(tmp_path, values)).train) == 4
    values["data"]["without_objects"] = False
    assert len(read_splits(write_config(tmp_path, values)).train) == 3


def test_without_a_canvas_a_batch_is_padded_to_its_largest_image(tmp_path: Path) -> None:
    config = whole_image_config(tmp_path, short_sides=[40, 50, 70], long_side=100)
    batch = batch_of(config, *range(12))
    assert set(batch.sizes) == {(40, 60), (50, 75), (67, 100)}  # 70 would be 105 wide
    assert batch.images.shape[1:] == (96, 128, 3)
    images = normalise(batch.images, batch.sizes, config.model.input)
    for (height, width), image in zip(batch.sizes, images, strict=True):
        assert (image[:, height:] == 0).all()
        assert (image[:, :, width:] == 0).all()
        assert (image[:, :height, :width] != 0).any()


@pytest.mark.parametrize("mean", [[123.675, 116.28, 103.53], [200.4, 0.0, 0.6]])
def test_what_pads_a_canvas_is_near_nothing_once_normalised(mean: list[float], tmp_path: Path) -> None:
    content = content_of_config(tmp_path)
    content["model"]["input"] |= {"mean": mean, "std": [50.0, 50.0, 50.0]}
    content["data"]["min_size"] = 0
    content["augment"]["scale"] = [0.3, 0.3]  # most of the canvas is padding
    config = write_config(tmp_path, content)
    stream = stream_of(config)
    image = torch.from_numpy(stream[0].sample.image)
    assert (image == torch.tensor([round(value) for value in mean])).all(dim=2).float().mean() > 0.5
    normal = normalise(image[None], [CANVAS], config.model.input)
    assert (normal.abs() < 0.011).all(dim=1).float().mean() > 0.5


def test_without_short_sides_there_is_one_scale_that_of_the_model(tmp_path: Path) -> None:
    batch = batch_of(whole_image_config(tmp_path), *range(6))
    assert set(batch.sizes) == {(64, 96)}
    assert batch.images.shape[1:3] == (64, 96)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_masks_stay_on_their_objects(flip: float, tmp_path: Path) -> None:
    """The targets, brought back to the image, lie on the bright objects, on padded canvases too."""
    config = whole_image_config(tmp_path, short_sides=[40, 64, 96], long_side=150, flip=flip)
    batch = batch_of(config, *range(8))
    for image, (target,) in zip(batch.images.numpy(), batch.targets, strict=True):
        bright = image.max(axis=2) > 150
        found = target.masks.any(dim=0).numpy()
        shrunk = bright.reshape(found.shape[0], 4, found.shape[1], 4).mean(axis=(1, 3)) >= 0.5
        assert (found & shrunk).sum() > 0.8 * (found | shrunk).sum() > 0
        grid = len(target.owners)
        for row, column, mask in zip(target.rows, target.columns, target.masks.numpy(), strict=True):
            ys, xs = np.nonzero(mask)
            assert abs((ys.mean() + 0.5) / mask.shape[0] * grid - (int(row) + 0.5)) < 2
            assert abs((xs.mean() + 0.5) / mask.shape[1] * grid - (int(column) + 0.5)) < 2


def test_copy_and_paste_works_without_a_canvas(tmp_path: Path) -> None:
    config = whole_image_config(tmp_path, short_sides=[40, 64, 96], long_side=150, copy_paste=1.0)
    stream = stream_of(config)
    counts = [len(stream[n].sample.masks) for n in range(20)]
    assert max(counts) > 2
    for n in range(20):
        sample = stream[n].sample
        assert sample.masks.shape[1:] == sample.image.shape[:2]
        assert sample.masks.any(axis=(1, 2)).all()
        assert (sample.masks.sum(axis=0) <= 1).all()


def test_resizing_keeps_the_ratio_and_rounds_as_the_published_code_does() -> None:
    sample = Sample(
        image=np.zeros((427, 640, 3), dtype=np.uint8),
        masks=np.ones((1, 427, 640), dtype=np.uint8),
        class_ids=np.zeros(1, dtype=np.int64),
        also_possible=np.zeros((1, 2), dtype=np.bool_),
        ignored=np.zeros(1, dtype=np.bool_),
    )
    resized = resize_whole(sample, short=800, long=1333, flip=False)
    assert resized.image.shape == (800, 1199, 3)
    assert resized.masks.shape == (1, 800, 1199)
    assert resize_whole(sample, short=800, long=1000, flip=False).image.shape == (667, 1000, 3)


def test_classes_that_are_not_exhaustively_labelled_are_not_punished(tmp_path: Path) -> None:
    path = draw_data(tmp_path)
    content = json.loads(path.read_text())
    for row in content["images"]:
        row["exhaustive_category_ids"] = [7]
    path.write_text(json.dumps(content))
    batch = batch_of(make_config(tmp_path), 0)
    weights, owners = batch.class_weights[0][0], batch.targets[0][0].owners
    assert (weights[0] == 1).all()
    assert (weights[1][owners < 0] == 0).all()
    assert (weights[1][owners >= 0] == 1).all()


def test_a_crowd_is_neither_taught_nor_punished(tmp_path: Path) -> None:
    path = draw_data(tmp_path, images=2)
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    config = make_config(tmp_path)
    stream = stream_of(config)
    number = next(n for n in range(20) if stream[n].name.endswith("0.png"))
    batch = batch_of(config, number)
    (target,), (weights,) = batch.targets[0], batch.class_weights
    assert set(target.owners.unique().tolist()) == {-1, 0}  # the box alone
    assert (weights[0, 0] == 0).any()
    assert (weights[0, 1] == 1).all()


def square(side: float) -> dict[str, object]:
    """An annotation's keys for a square in the upper left corner."""
    low, high = 4.0, 4.0 + side
    return {"segmentation": [[low, low, high, low, high, high, low, high]], "bbox": [low, low, side, side]}


def batch_with_a_disc_that_is(folder: Path, scale: tuple[float, float], **changed: object) -> TrainingBatch:
    """One image, whose disc is annotated in another way; the level takes objects in ``scale``."""
    values = content_of_config(folder)
    path = draw_data(folder, images=2)
    content = json.loads(path.read_text())
    content["annotations"][0] |= changed
    path.write_text(json.dumps(content))
    values["model"]["head"]["levels"][0]["scale"] = list(scale)
    config = write_config(folder, values)
    stream = stream_of(config)
    return batch_of(config, next(n for n in range(50) if stream[n].name.endswith("0.png")))


def test_an_object_of_a_size_that_no_level_takes_is_neither_taught_nor_punished(tmp_path: Path) -> None:
    batch = batch_with_a_disc_that_is(tmp_path, (1, 40), **square(50))
    (target,), (weights,) = batch.targets[0], batch.class_weights
    assert set(target.class_ids.unique().tolist()) == {1, 2}  # the box alone
    free = target.owners < 0
    unknown = torch.zeros_like(free)
    unknown[0:11, 0:7] = True  # cells of 5.3 x 8 pixels
    assert torch.equal(weights[0, 0] == 0, unknown & free)
    assert (weights[0, 1] == 1).all()


def ambiguous_config(folder: Path, mark: dict[str, object], **data: object) -> TrainConfig:
    """One image, labelled exhaustively, whose disc carries a mark."""
    path = draw_data(folder, images=1)
    content = json.loads(path.read_text())
    content["annotations"][0] |= mark
    path.write_text(json.dumps(content))
    values = content_of_config(folder)
    values["data"] |= data
    return write_config(folder, values)


@pytest.mark.parametrize(
    ("mark", "data"),
    [
        ({"possible_category_ids": [7, 9]}, {}),
        ({"possible_category_ids": [9]}, {}),
        ({"blurred": True}, {"ambiguous": {"blurred": ["disc", "box"]}}),
        ({"blurred": 1}, {"ambiguous": {"blurred": ["box"], "far": []}}),
    ],
)
def test_an_object_that_may_be_of_another_class_does_not_count_against_it(
    mark: dict[str, object], data: dict[str, object], tmp_path: Path
) -> None:
    batch = batch_of(ambiguous_config(tmp_path, mark, **data), 0)
    (target,), (weights,) = batch.targets[0], batch.class_weights
    disc, box = target.class_ids == 0, target.class_ids == 1
    assert disc.any()
    assert box.any()
    assert (weights[0, 0] == 1).all()  # the disc is taught as one
    assert (weights[0, 1][disc] == 0).all()
    assert (weights[0, 1][~disc] == 1).all()


@pytest.mark.parametrize(
    ("mark", "data"),
    [({}, {}), ({"blurred": True}, {}), ({"blurred": False}, {"ambiguous": {"blurred": ["box"]}})],
)
def test_without_such_a_mark_every_class_is_certain(
    mark: dict[str, object], data: dict[str, object], tmp_path: Path
) -> None:
    batch = batch_of(ambiguous_config(tmp_path, mark, **data), 0)
    assert (batch.class_weights[0] == 1).all()


@pytest.mark.parametrize("ignored", [{"iscrowd": 1}, square(8), square(50)])
def test_an_ignored_object_counts_against_none_of_the_classes_that_it_may_be_of(
    ignored: dict[str, object], tmp_path: Path
) -> None:
    """A crowd, one that is too small, and one that no level takes."""
    batch = batch_with_a_disc_that_is(tmp_path, (1, 40), possible_category_ids=[7, 9], **ignored)
    (target,), (weights,) = batch.targets[0], batch.class_weights
    assert (target.class_ids != 0).all()
    assert (weights[0, 0] == 0).any()
    assert torch.equal(weights[0, 0], weights[0, 1])


def test_pasted_objects_keep_their_possible_classes(tmp_path: Path) -> None:
    values = content_of_config(tmp_path) | {"augment": {"copy_paste": 1.0, "flip": 0}}
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    for row in content["annotations"]:
        row["possible_category_ids"] = [7, 9]
    path.write_text(json.dumps(content))
    stream = stream_of(write_config(tmp_path, values))
    samples = [stream[n].sample for n in range(8)]
    assert max(len(sample.masks) for sample in samples) > 2
    for sample in samples:
        others = np.eye(2, dtype=np.bool_)[1 - sample.class_ids]
        np.testing.assert_array_equal(sample.also_possible, others)


def test_images_are_read_once_if_they_fit_into_memory(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    images = read_splits(config).train
    needed = 4 * CANVAS[0] * CANVAS[1] * 3
    small, large = ImageCache(), ImageCache()
    small.keep(images, budget=needed - 1, progress=False)
    large.keep(images, budget=needed, progress=False)
    assert (len(small), len(large)) == (0, 4)
    from_disk = batch_of(config, *range(4)).images
    for image in images:
        image.path.unlink()
    stream = TrainingStream(images, config, large)
    assert torch.equal(Collate(config)([stream[n] for n in range(4)]).unpack(CPU).images, from_disk)


def test_workers_share_the_images_in_memory(tmp_path: Path) -> None:
    config = write_config(tmp_path, content_of_config(tmp_path, steps=2) | {"workers": 2})
    pictures = ImageCache()
    images: list[CocoImage] = read_splits(config).train
    pictures.keep(images, budget=2**30, progress=False)
    for image in images:
        image.path.unlink()
    loader = make_loader(
        TrainingStream(images, config, pictures), config, first=0, steps=2, rank=0, pin=False
    )
    assert sum(len(batch.unpack(CPU).names) for batch in loader) == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_named_in_one_line(workers: int, tmp_path: Path) -> None:
    config = write_config(tmp_path, content_of_config(tmp_path) | {"workers": workers})
    stream = stream_of(config)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(UsageError) as caught:
        next(read_batches(make_loader(stream, config, first=0, steps=1, rank=0, pin=False)))
    assert re.fullmatch(re.escape(str(tmp_path)) + r"/\d\.png is missing", str(caught.value))


def test_free_memory_is_known_on_linux() -> None:
    assert 2**20 < free_memory() < 2**50


@pytest.mark.parametrize("shapes", [[], [(0, 3)], [(3,), (2, 2), ()]])
def test_packed_tensors_come_back(shapes: list[tuple[int, ...]]) -> None:
    kinds: list[Any] = [torch.uint8, torch.bool, torch.int64, torch.float32]
    given = [(torch.rand(shape) * 9).to(kind) for shape in shapes for kind in kinds]
    for ours, expected in zip(pack(given).tensors(), given, strict=True):
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)
