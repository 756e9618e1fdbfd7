"""The Python interface, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import streamseg
from streamseg import Segmenter, run
from streamseg.errors import OutputError, SourceError, UsageError
from streamseg.types import Frame, FrameResult, Instances, Output, StreamInfo, StreamWriter
from tests.support.batches import segment_batch
from tests.support.media import write_clip
from tests.support.program import STREET
from tests.support.readme import example


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load("demo", device="cpu", precision="fp32")


def test_public_names() -> None:
    assert set(streamseg.__all__) == {"Segmenter", "__version__", "read_results", "run"}
    with pytest.raises(AttributeError):
        streamseg.nothing  # noqa: B018


def test_one_picture(segmenter: Segmenter) -> None:
    found = segmenter(first_frame())
    assert len(found) > 0
    assert set(found.labels) <= set(segmenter.spec.classes)
    assert found.masks().shape == (len(found), 576, 768)
    assert found.masks().dtype == np.bool_
    assert (np.diff(found.scores) <= 0).all()


def test_a_score_only_leaves_out_what_is_below_it(segmenter: Segmenter) -> None:
    everything = Segmenter.load("demo", device="cpu", precision="fp32", score=0.0)(first_frame())
    found = segmenter(first_frame())
    good = everything.scores >= 0.3
    assert 0 < len(found) < len(everything)
    np.testing.assert_allclose(found.scores, everything.scores[good], atol=1e-6)
    assert (found.boxes == everything.boxes[good]).all()


def test_an_empty_picture_has_no_instances(segmenter: Segmenter) -> None:
    found = segmenter(np.full((300, 400, 3), 127, dtype=np.uint8))
    assert len(found) == 0
    assert found.masks().shape == (0, 300, 400)


@pytest.mark.parametrize("size", [(1, 1), (17, 900), (2000, 30)])
def test_pictures_of_any_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    assert segmenter(np.zeros((*size, 3), dtype=np.uint8)).masks().shape[1:] == size


def test_a_batch_equals_its_pictures(segmenter: Segmenter) -> None:
    pictures = [first_frame(), first_frame()[100:500, 50:750].copy()]
    together = segment_batch(segmenter, pictures)
    for picture, batched in zip(pictures, together, strict=True):
        alone = segmenter(picture)
        assert batched.labels == alone.labels
        np.testing.assert_allclose(batched.scores, alone.scores, atol=1e-4)
        differing = (batched.masks() != alone.masks()).sum()
        assert differing <= 0.001 * alone.masks().sum()


def test_bf16_finds_what_fp32_finds(segmenter: Segmenter) -> None:
    half = Segmenter.load("demo", device="cpu", precision="bf16")
    exact, rough = segmenter(first_frame()), half(first_frame())
    assert len(exact) > 0
    overlaps = [
        max((mask & other).sum() / (mask | other).sum() for other in rough.masks())
        for mask, score in zip(exact.masks(), exact.scores, strict=True)
        if score > 0.35  # fainter ones may fall below the threshold
    ]
    assert np.mean(overlaps) > 0.85


def test_run_yields_every_frame_in_order(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=7)
    assert [result.frame for result in run(str(clip), device="cpu")] == list(range(7))


def test_run_takes_paths_and_lists(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", frames=2, width=64, height=48) for name in "abc"]
    results = list(run(clips[0], [str(clips[1]), clips[2]], device="cpu"))
    assert sorted((r.stream, r.frame) for r in results) == [(name, k) for name in "abc" for k in range(2)]
    assert {r.source for r in results} == {str(clip) for clip in clips}
    with pytest.raises(UsageError, match="a source is a text, a path or a list of them, not a int"):
        next(run(7))  # type: ignore[arg-type]


def test_leaving_the_loop_ends_the_run() -> None:
    results = run(str(STREET), device="cpu")
    first = next(results)
    results.close()
    assert (first.frame, first.width, first.height) == (0, 768, 576)
    if first.instances:
        assert first.instances[0].mask.shape == (576, 768)


class Labels(StreamWriter):
    """What a user writes to have results written somewhere else."""

    def __init__(self, labels: dict[int, int]) -> None:
        self.labels = labels

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        assert frame is None, "it did not ask for pixels"
        self.labels[result.frame] = len(result.instances)


class LabelsOutput(Output):
    def __init__(self) -> None:
        self.labels: dict[int, int] = {}

    def open(self, info: StreamInfo) -> StreamWriter:
        return Labels(self.labels)


def test_sinks_of_ones_own(tmp_path: Path) -> None:
    seen: list[tuple[int, tuple[int, ...], int]] = []

    def note(result: FrameResult, frame: Frame, instances: Instances) -> None:
        seen.append((result.frame, frame.pixels.shape, len(instances)))

    output, clip = LabelsOutput(), write_clip(tmp_path / "a.mp4", frames=3, width=64, height=48)
    results = list(run(str(clip), device="cpu", outputs=[note, output]))
    assert seen == [(r.frame, (48, 64, 3), len(r.instances)) for r in results]
    assert output.labels == {r.frame: len(r.instances) for r in results}


def test_the_sinks_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", frames=3, width=64, height=48)
    exec(example("python", "class Counter"), {"run": run})
    assert capsys.readouterr().out == "clip 0 ended\n"


def test_a_sink_that_fails_is_told_at_the_end(tmp_path: Path) -> None:
    def explode(result: FrameResult, frame: Frame, instances: Instances) -> None:
        raise ValueError("no such table")

    clip = write_clip(tmp_path / "a.mp4", frames=3, width=64, height=48)
    results = run(str(clip), device="cpu", outputs=[explode])
    with pytest.raises(OutputError, match="explode: ValueError: no such table"):
        for _ in results:
            pass


def test_run_raises_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.mp4"):
        list(run(str(tmp_path / "nowhere.mp4"), device="cpu"))
    with pytest.raises(UsageError, match=r"model\.score: Input should be less than or equal to 1"):
        next(run(str(STREET), score=30))
    with pytest.raises(TypeError, match="wieghts"):
        run(str(STREET), wieghts="demo")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("streamseg", {"torch", "cv2", "av", "numpy"}),
        ("streamseg.client", {"torch", "cv2", "av", "supervision"}),
        ("streamseg.sources.worker", {"torch", "cv2", "supervision"}),
        ("streamseg.cli", {"torch", "cv2", "av"}),
    ],
)
def test_imports_stay_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert absent.isdisjoint(loaded.stdout.split())


def first_frame() -> np.ndarray:
    import av

    with av.open(str(STREET)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")
