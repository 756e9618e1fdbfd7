"""What an overlay shows, and what it hides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.config import LineConfig, OverlayOptions, ZoneConfig
from streamseg.masks.parts import main_boxes
from streamseg.overlay import labels as labels_module
from streamseg.overlay.paint import Painter, paint
from streamseg.overlay.palette import PALETTE, colours_of
from streamseg.overlay.trails import Point, Trails
from streamseg.types import Frame, Instances
from streamseg.types.zones import Counts
from streamseg.zones import StreamRules
from tests.support.clips import frame, instances

NOTHING = OverlayOptions(masks=False, outlines=False, labels=False, ids=False)
SIZE = (640, 480)
BOX = (200, 200, 400, 400)


def grey(size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.full((size[1], size[0], 3), 100, np.uint8)


def noise(size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)


def chosen(**parts: Any) -> OverlayOptions:
    """Nothing but some parts."""
    return OverlayOptions.model_validate(NOTHING.model_dump() | parts)


def changed(options: OverlayOptions, found: Instances) -> NDArray[np.bool_]:
    painted: NDArray[np.bool_] = (paint(grey(), found, options=options) != 100).any(axis=2)
    return painted


def test_nothing_chosen_is_the_picture() -> None:
    assert not changed(NOTHING, instances(SIZE, [BOX])).any()


def test_each_part_alone() -> None:
    found = instances(SIZE, [BOX])
    fill = changed(chosen(masks=True), found)
    assert fill[200:400, 200:400].all()
    assert fill.sum() == 200 * 200
    outline = changed(chosen(outlines=True), found)
    assert outline[300, 200]
    assert not outline[300, 300]
    round_ = replace(found, crops=(np.tri(200, dtype=np.bool_),))
    box = changed(chosen(boxes=True), round_)
    assert box[200, 399]
    assert not box[300, 300]
    label = changed(chosen(labels=True), found)
    number = changed(chosen(ids=True), found)
    assert label.sum() > 2 * number.sum() > 0
    assert not label[200:400, 200:400].any()


def test_ids_without_labels_say_nothing_of_untracked_objects() -> None:
    found = replace(instances(SIZE, [BOX]), ids=(None,))
    assert not changed(chosen(ids=True), found).any()


def test_a_label_stands_at_the_largest_part_of_the_mask() -> None:
    crop = np.zeros((300, 400), np.bool_)
    crop[200:, 300:] = True
    crop[:3, :3] = True
    found = replace(instances(SIZE, [(100, 100, 500, 400)]), crops=(crop,))
    label = changed(chosen(labels=True), found)
    assert np.flatnonzero(label.any(axis=0)).min() >= 395
    assert 270 < np.flatnonzero(label.any(axis=1)).min() < 300


def plates(
    found: Instances, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, painter: Painter | None = None
) -> list[Sequence[int]]:
    """x1, y1, x2, y2 of the labels that are drawn."""
    drawn: list[Sequence[int]] = []
    paste = labels_module._paste

    def noting(picture: NDArray[np.uint8], plate: labels_module._Plate, x: int, y: int) -> None:
        drawn.append((x, y, x + plate.size[0], y + plate.size[1]))
        paste(picture, plate, x, y)

    monkeypatch.setattr(labels_module, "_paste", noting)
    (painter or Painter()).paint(frame(0, size=size, pixels=grey(size)), found)
    return drawn


def overlap(a: Sequence[int], b: Sequence[int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def test_labels_in_a_crowd_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty people in eight clusters of five that stand half behind each other."""
    boxes = [
        (x + 25 * k, y + 6 * k, x + 25 * k + 50, y + 6 * k + 150)
        for x in range(60, 1800, 460)
        for y in (200, 700)
        for k in range(5)
    ]
    drawn = plates(instances((1920, 1080), boxes), (1920, 1080), monkeypatch)
    assert len(drawn) == len(boxes) == 40
    assert sum(overlap(a, b) for i, a in enumerate(drawn) for b in drawn[:i]) == 0


def test_a_label_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour that comes a little nearer does not make it jump to and fro."""
    painter, tops = Painter(), []
    for step in range(12):
        near = 133 + step % 2 * 4
        found = instances(SIZE, [(100, 200, 160, 400), (100, near, 160, near + 56)])
        with monkeypatch.context() as patch:
            tops.append(plates(found, SIZE, patch, painter)[0][1])
    assert len(set(tops)) == 1


def test_one_place_for_many_labels_shortens_them(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = plates(instances((320, 240), [(100, 80, 140, 120)] * 30), (320, 240), monkeypatch)
    widths = [x2 - x1 for x1, _, x2, _ in drawn]
    assert widths[0] == max(widths) > 2 * min(widths)
    assert all(0 <= x1 < x2 <= 320 and 0 <= y1 < y2 <= 240 for x1, y1, x2, y2 in drawn)


def test_the_main_part_of_a_mask() -> None:
    found = instances(SIZE, [(100, 100, 500, 400), (0, 0, 20, 20), (5, 5, 6, 6)])
    crop = np.zeros((300, 400), np.bool_)
    crop[200:, 300:350] = True
    crop[:3, :3] = True
    found = replace(found, crops=(crop, *found.crops[1:]))
    main = main_boxes(found.boxes, found.crops)
    assert main.tolist() == [[400, 300, 450, 400], [0, 0, 20, 20], [5, 5, 6, 6]]
    empty = instances(SIZE)
    assert main_boxes(empty.boxes, empty.crops).shape == (0, 4)


def test_colours() -> None:
    found = instances(SIZE, [(20, 200, 120, 300), (400, 200, 500, 300), (10, 10, 30, 30)])
    mixed = replace(found, ids=(7, None, 8), class_ids=np.array([0, 2, 0]))
    assert colours_of(mixed) == [PALETTE[7], PALETTE[2], PALETTE[8]]
    assert colours_of(replace(found, ids=())) == [PALETTE[1], PALETTE[2], PALETTE[0]]


@pytest.mark.parametrize("box", [(200, 100, 320, 400), (0, 0, 640, 480), (630, 470, 640, 480), (0, 0, 1, 1)])
def test_blurred_objects_lose_their_details_and_others_keep_them(box: tuple[int, int, int, int]) -> None:
    picture = noise()
    found = instances(SIZE, [box])
    x1, y1, x2, y2 = box
    blurred = paint(picture, found, options=chosen(blur=("person",)))
    inside = blurred[y1:y2, x1:x2].astype(float)
    steps = np.abs(np.diff(inside, axis=0))
    assert steps.sum() <= 25 * steps.size  # of noise they are 85 on average
    assert (blurred[:, : max(0, x1 - 20)] == picture[:, : max(0, x1 - 20)]).all()
    kept = paint(picture, found, options=chosen(blur=("car",)))
    np.testing.assert_array_equal(kept, picture)


def test_what_is_blurred_covers_the_edge_of_the_mask() -> None:
    picture = noise()
    blurred = paint(picture, instances(SIZE, [BOX]), options=chosen(blur=("person",)))
    assert (blurred[300, 192:200] != picture[300, 192:200]).any(axis=1).all()
    np.testing.assert_array_equal(blurred[300, :180], picture[300, :180])


def test_a_face_that_fills_its_box_becomes_a_few_cells() -> None:
    """Stripes of a twelfth of the box, finer than its cells, vanish."""
    picture = grey()
    picture[200:400, 200:400][:, np.arange(200) // 8 % 2 == 0] = 255
    before = np.ptp(picture[300, 220:380].astype(int))
    blurred = paint(picture, instances(SIZE, [BOX]), options=chosen(blur=("person",)))
    assert np.ptp(blurred[300, 220:380].astype(int)) < before / 4


def moving(step: int, *, id_: int = 4) -> Instances:
    return replace(instances(SIZE, [(20 + 10 * step, 100, 60 + 10 * step, 200)]), ids=(id_,))


def update(trails: Trails, at: Frame, found: Instances) -> Mapping[int, Sequence[Point]]:
    return trails.update(at, found.ids, found.boxes.tolist())


def test_trails_follow_the_object_and_end() -> None:
    trails = Trails(seconds=0.4)
    ways = [update(trails, frame(step), moving(step)) for step in range(20)]  # 25 frames a second
    assert [len(way[4]) for way in ways[:3]] == [1, 2, 3]
    assert len(ways[-1][4]) == 11
    xs, ys = zip(*ways[-1][4], strict=True)
    assert list(xs) == sorted(xs)
    assert set(ys) == {200.0}
    assert update(trails, frame(20), instances(SIZE)) == {}
    assert len(update(trails, frame(60), moving(60))[4]) == 1


def test_trails_begin_anew_with_an_epoch() -> None:
    trails = Trails()
    for step in range(5):
        update(trails, frame(step), moving(step))
    assert len(update(trails, frame(0, epoch=1), moving(0))[4]) == 1


def test_a_painter_follows_a_picture_that_changes_its_size() -> None:
    painter = Painter(chosen(masks=True))
    for size in (SIZE, (64, 48), SIZE):
        pixels = grey(size)
        painted = painter.paint(frame(0, size=size, pixels=pixels), instances(size, ((8, 8, 40, 40),)))
        assert painted.shape == pixels.shape
        assert (painted != pixels).any()
        np.testing.assert_array_equal(pixels, grey(size))
        painted = painter.paint(frame(1, size=size, pixels=pixels), instances(size, ()))
        np.testing.assert_array_equal(painted, pixels, "nothing of the picture before")


def test_a_painter_draws_the_trails_of_its_own_stream() -> None:
    options = chosen(trails=True)
    painter = Painter(options)
    for step in range(8):
        painted = painter.paint(frame(step, size=SIZE, pixels=grey()), moving(step))
    assert (painted[195:206, 50:100] != 100).any()
    other = Painter(options).paint(frame(8, size=SIZE, pixels=grey()), moving(8))
    np.testing.assert_array_equal(other, grey())


def test_zones_and_lines_are_drawn_with_their_counts() -> None:
    rules = StreamRules(
        zones={"queue": ZoneConfig(polygon=((0.5, 0.5), (0.9, 0.5), (0.9, 0.9)))},
        lines={"gate": LineConfig(points=((64, 100), (576, 100)))},
    )
    counts: Counts = {"queue": 3, "gate": {"in": 1, "out": 2}}
    picture = grey()

    def drawn(options: OverlayOptions, counts: Counts) -> NDArray[np.uint8]:
        return paint(picture, instances(SIZE, []), options=options, rules=rules, counts=counts)

    shown = drawn(NOTHING, counts)
    assert (shown[240, 480] > 200).all()  # the edge of the zone
    assert (shown[100, 300] > 200).all()  # the line
    assert (shown[110:125, 320] > 200).all()  # the arrow points the way that is in
    assert (shown[75:90, 320] == 100).all()
    assert (shown != drawn(NOTHING, {"queue": 4, "gate": {"in": 1, "out": 2}})).any()
    assert (drawn(chosen(places=False), counts) == 100).all()
