"""Masks with windows: where they may reach, and that a batch gives what its pictures give alone."""

import pytest
import torch

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import candidate_masks
from streamseg.models.nets.windowed import WindowedOutput
from streamseg.models.nets.windows import box_distances, cell_boxes, make_windows
from streamseg.models.postprocess.candidates import make_grids, select_candidates
from streamseg.models.spec import LevelSpec
from streamseg.training.losses import solo_loss
from streamseg.training.targets import Annotations, build_targets
from tests.support.lively import VARIANTS, make_detector


def windowed() -> Detector:
    return make_detector(**VARIANTS["solov2, windows"])


def run(detector: Detector, images: torch.Tensor) -> WindowedOutput:
    output = detector(images)
    assert isinstance(output, WindowedOutput)
    return output


def test_a_batch_gives_what_its_pictures_give_alone() -> None:
    detector = windowed()
    images = torch.randn(3, 3, 96, 128)
    with torch.no_grad():
        batch = run(detector, images)
        for k in range(3):
            alone = run(detector, images[k : k + 1])
            for ours, expected in (
                *zip(batch.class_logits, alone.class_logits, strict=True),
                *zip(batch.mask_tensors(), alone.mask_tensors(), strict=True),
            ):
                torch.testing.assert_close(ours[k], expected[0], atol=1e-4, rtol=1e-4)


def test_three_ways_to_the_same_masks() -> None:
    detector = windowed()
    with torch.no_grad():
        output = run(detector, torch.randn(2, 3, 96, 128))
        grids = make_grids([logits.shape[-1] for logits in output.class_logits])
        found = select_candidates(output.class_logits, grids, threshold=0.3, limit=30).used()
        counts = found.ends[1].diff(prepend=torch.zeros(1, dtype=torch.long))
        assert counts.all()
        written = candidate_masks(output, found)[1, : counts.sum()]
        cells = grids.places[found.cells[1, : counts.sum()], :2].split(counts.tolist())
        torch.testing.assert_close(output.cell_masks(1, cells), written)
        torch.testing.assert_close(output.images()[1].cell_masks(0, cells), written)
        rows, columns = cells[1].unbind(dim=1)
        torch.testing.assert_close(output.soft_masks(1, 1, rows, columns), written[counts[0] :])


def test_distances_are_the_mean_of_the_bins() -> None:
    logits = torch.full((1, 32, 1, 1), -50.0)
    for side, step in enumerate((0, 3, 7)):
        logits[0, side * 8 + step] = 50
    logits[0, 24 + 2] = logits[0, 24 + 3] = 50
    torch.testing.assert_close(box_distances(logits, bins=8)[0, :, 0, 0], torch.tensor([0.0, 3.0, 7.0, 2.5]))


def test_boxes_are_measured_from_the_cells() -> None:
    level = LevelSpec(pyramid=3, stride=8, grid=4, scale=(1, 64))
    boxes = cell_boxes(
        torch.tensor([1.0, 2.0, 3.0, 0.5])[None, :, None, None].expand(1, 4, 4, 4), level, (64, 128)
    )
    # Cell (1, 2): its middle is at x = 80, y = 24, from which half a stride is taken.
    torch.testing.assert_close(boxes[0, :, 1, 2], torch.tensor([76 - 8.0, 20 - 16.0, 76 + 24.0, 20 + 4.0]))


def test_a_mask_ends_a_little_beyond_its_box() -> None:
    cells = torch.zeros(1, 4 + 2 * 9)
    cells[0, :4] = torch.tensor([40.0, 20.0, 80.0, 60.0])
    window = make_windows(cells, (32, 32), stride=4)
    inside = (window.x[0] + window.y[0][:, None]) > 0
    ys, xs = inside.nonzero(as_tuple=True)
    assert (int(xs.min()), int(xs.max()), int(ys.min()), int(ys.max())) == (9, 20, 4, 15)
    assert window.x[0, 25] < -9
    for part in window:
        assert torch.isfinite(part).all()


def test_a_profile_adds_to_its_side_of_the_box() -> None:
    cells = torch.zeros(2, 4 + 2 * 5)
    cells[:, :4] = torch.tensor([0.0, 0.0, 128.0, 128.0])
    cells[1, 4 + 3] = 2.0  # along x, at +0.5: the right edge
    plain, pushed = make_windows(cells, (32, 32), stride=4).x
    torch.testing.assert_close(plain[:16], pushed[:16])
    assert (pushed - plain)[16:].diff().gt(0).all()
    torch.testing.assert_close(make_windows(cells, (32, 32), stride=4).y[0], plain)


@pytest.mark.parametrize("count", [0, 2])
def test_every_parameter_learns(count: int) -> None:
    detector = windowed().train()
    detector.backbone.requires_grad_(False)
    masks = torch.zeros(count, 96, 128, dtype=torch.uint8)
    for k in range(count):
        masks[k, 20 + k : 60, 30 : 80 + k] = 1
    boxes = torch.tensor([[30.0, 20.0 + k, 80.0 + k, 60.0] for k in range(count)]).reshape(count, 4)
    truth = Annotations(torch.arange(count), boxes, masks)
    spec = detector.spec
    targets = [
        build_targets(truth, spec.head.levels, classes=3, mask_strides=spec.mask_strides, pairs=True)
        for _ in range(2)
    ]
    losses = solo_loss(run(detector, torch.randn(2, 3, 96, 128)), targets, mask_loss="dice_bce")
    (losses.mask + losses.classes).backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    assert (losses.mask > 0) == (count > 0)
