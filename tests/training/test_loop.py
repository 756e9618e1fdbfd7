"""A run learns, goes on after a kill, stops when asked to, and says what is wrong."""

import csv
import random
import re
import shutil
import signal
import time
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from streamseg.errors import RunError, UsageError
from streamseg.inference import Segmenter
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.files import load_detector, read_spec, save_weights
from streamseg.training.checkpoint import CHECKPOINT, Fingerprint
from streamseg.training.config import TrainConfig
from streamseg.training.loop import Outcome, train
from streamseg.training.validation import BEST
from tests.support.drawn import content_of_config, draw_data, make_config, make_segment, write_config
from tests.training.programs import Program


def weights_of(config: TrainConfig) -> dict[str, Tensor]:
    content = torch.load(config.output / CHECKPOINT, weights_only=True)
    return {
        f"{part}.{name}": tensor
        for part in ("detector", "average")
        for name, tensor in content[part].items()
        if tensor.is_floating_point()
    }


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor], *, atol: float = 0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def losses_of(config: TrainConfig) -> list[dict[str, str]]:
    with (config.output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.timeout(300)  # 20 seconds of a core that is not shared
def test_a_few_pictures_are_learned_by_heart(tmp_path: Path) -> None:
    """Masks of stride 2, so that AP up to an IoU of 0.95 can be reached."""
    draw_data(tmp_path, zoom=2)
    content = content_of_config(tmp_path, steps=140)
    content["model"] |= {"fpn_first": 2, "input": {"canvas": [128, 192]}}
    content["model"]["head"]["levels"] = [{"pyramid": 2, "stride": 4, "grid": 12, "scale": [1, 256]}]
    outcome = train(write_config(tmp_path, content), progress=False, make_segment=make_segment)
    assert outcome.table is not None
    rows = [[cell.strip() for cell in line.split("|")] for line in outcome.table.splitlines()]
    scores = {row[1]: float(row[4]) for row in rows[2:]}
    assert scores.keys() == {"disc", "box", "mean"}
    assert min(scores.values()) > 90, outcome.table


@pytest.mark.timeout(300)  # programs one after the other
@pytest.mark.parametrize(("kills", "steps"), [(3, 16), pytest.param(12, 56, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(kills: int, steps: int, tmp_path: Path) -> None:
    content = content_of_config(tmp_path, steps=steps, checkpoint_minutes=1e-9)
    content |= {"evaluation": {"every_steps": 8}, "augment": {}, "workers": 1}
    undisturbed = write_config(tmp_path, content)
    train(undisturbed, progress=False, make_segment=make_segment)
    halted = write_config(tmp_path, content | {"output": str(tmp_path / "halted")})
    for _ in range(kills):
        before = lines_of_log(halted)
        program = Program(tmp_path, "--resume")
        program.wait_for(lambda before=before: lines_of_log(halted) > before)  # a step beyond the checkpoint
        time.sleep(random.uniform(0, 0.3))
        program.send_signal(signal.SIGKILL)
        assert program.finish()[0] == -signal.SIGKILL
    code, stderr = Program(tmp_path, "--resume").finish()
    assert code == 0, stderr
    assert_same_tensors(weights_of(undisturbed), weights_of(halted))
    assert [int(row["step"]) for row in losses_of(halted)] == list(range(1, steps + 1))
    for name in ("log.csv", "evaluation.csv", "evaluation.md"):
        assert (halted.output / name).read_bytes() == (undisturbed.output / name).read_bytes(), name
    for name in ("weights.safetensors", "best.safetensors"):
        assert_same_tensors(load_file(halted.output / name), load_file(undisturbed.output / name))


def lines_of_log(config: TrainConfig) -> int:
    """With that of the columns, which is there before the first step."""
    path = config.output / "log.csv"
    return max(1, len(path.read_bytes().splitlines())) if path.exists() else 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    content = content_of_config(tmp_path, steps=10_000)
    config = write_config(tmp_path, content | {"workers": 1})
    program = Program(tmp_path)
    program.wait_for(program.handles_signals)
    checkpoint_while_it_runs = (config.output / CHECKPOINT).exists()
    program.send_signal(number)
    code, stderr = program.finish()
    assert code == 128 + number, stderr
    assert "--resume goes on from there" in stderr
    assert "Traceback" not in stderr
    assert not checkpoint_while_it_runs
    taken = len(losses_of(config))
    assert torch.load(config.output / CHECKPOINT, weights_only=True)["step"] == taken > 0


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run of two steps without validation images, not to be changed."""
    folder = tmp_path_factory.mktemp("two-steps")
    return folder, train(make_config(folder, steps=2), progress=False)


@pytest.fixture
def finished(two_steps: tuple[Path, Outcome], tmp_path: Path) -> TrainConfig:
    """The same run, to be changed."""
    shutil.copytree(two_steps[0], tmp_path, dirs_exist_ok=True)
    return make_config(tmp_path, steps=2)


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of six steps that is evaluated after every second one."""
    folder = tmp_path_factory.mktemp("validated")
    content = content_of_config(folder, steps=6)
    config = write_config(folder, content | {"evaluation": {"every_steps": 2, "images": 2, "overlays": 3}})
    return train(config, progress=False, make_segment=make_segment)


def test_starting_anew_puts_the_folder_of_the_run_before_aside(
    finished: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    (finished.output / BEST).write_text("of the run before")
    before = {path.name: path.read_bytes() for path in finished.output.iterdir() if path.is_file()}
    assert train(finished, progress=False).best is None
    assert len(losses_of(finished)) == 2
    assert {name: (aside(finished, 1) / name).read_bytes() for name in before} == before
    assert f"{finished.output} of the run before is now {aside(finished, 1)}" in caplog.text
    train(finished, progress=False)
    assert not (finished.output / BEST).exists()
    assert (aside(finished, 2) / CHECKPOINT).exists()


def aside(config: TrainConfig, number: int) -> Path:
    return config.output.with_name(f"run.{number}")


def test_a_used_folder_without_a_checkpoint_is_put_aside_by_resume_too(finished: TrainConfig) -> None:
    (finished.output / CHECKPOINT).unlink()
    assert train(finished, resume=True, progress=False).steps == 2
    assert (aside(finished, 1) / "weights.safetensors").exists()


def test_a_folder_that_no_run_has_used_stays(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=1)
    config.output.mkdir()
    (config.output / "notes.txt").write_text("mine")
    train(config, progress=False)
    assert (config.output / "notes.txt").read_text() == "mine"
    assert not aside(config, 1).exists()


@pytest.mark.parametrize(
    "key", ["data.images", "data.train", "data.val", "initial_weights", "the working directory"]
)
def test_what_a_run_reads_is_not_put_aside(
    key: str, finished: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = content_of_config(tmp_path, steps=2)
    inside = finished.output / "weights.safetensors"
    section, _, name = key.rpartition(".")
    if key == "the working directory":
        monkeypatch.chdir(finished.output)
    else:
        (content[section] if section else content)[name] = str(inside)
    with pytest.raises(UsageError, match=f"would be put aside together with {key} "):
        train(write_config(tmp_path, content), progress=False)
    assert inside.exists()


def test_an_output_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = write_config(tmp_path, content_of_config(tmp_path) | {"output": str(tmp_path / "file" / "run")})
    with pytest.raises(UsageError, match=r"output .*/file/run: cannot be a folder, .*/file is a file"):
        train(config, progress=False)


def test_a_finished_run_can_be_prolonged(finished: TrainConfig, caplog: pytest.LogCaptureFixture) -> None:
    longer = make_config(finished.output.parent, steps=5, warmup_steps=0)
    with pytest.raises(UsageError, match=r"schedule\.warmup_steps was 10 and is 0"):
        train(longer, resume=True, progress=False)
    longer = make_config(finished.output.parent, steps=5)
    assert train(longer, resume=True, progress=False).steps == 5
    assert [int(row["step"]) for row in losses_of(longer)] == [1, 2, 3, 4, 5]
    said = (
        r"the run is 5 steps long now, not 2: at step 2 the learning rate goes from \S+ to \S+, because the"
    )
    assert re.search(said, caplog.text)
    with pytest.raises(UsageError, match="has taken 5 steps, more than the 3 of the schedule"):
        train(make_config(finished.output.parent, steps=3), resume=True, progress=False)


def test_milestones_keep_their_unit(tmp_path: Path) -> None:
    steps = make_config(tmp_path, steps=2, decay="steps", milestones=[1])
    content = content_of_config(tmp_path, epochs=2, decay="steps", milestones=[1])
    del content["schedule"]["steps"]
    epochs = Fingerprint.of(write_config(tmp_path, content))
    assert epochs.differences(epochs.keys | {"schedule.epochs": 9}) == []
    assert "schedule.steps was 2 and is null" in epochs.differences(Fingerprint.of(steps).keys)


def test_a_key_that_an_older_checkpoint_lacks_had_its_default(tmp_path: Path) -> None:
    content = content_of_config(tmp_path)
    older = Fingerprint.of(write_config(tmp_path, content)).keys
    del older["data.crowds"]
    assert Fingerprint.of(write_config(tmp_path, content)).differences(older) == []
    content["data"]["crowds"] = "teach"
    found = Fingerprint.of(write_config(tmp_path, content)).differences(older)
    assert found == ['data.crowds was null and is "teach"']


@pytest.mark.usefixtures("finished")
def test_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    other = content_of_config(tmp_path, steps=2, learning_rate=1e-3)
    other["model"]["head"]["convs"] = 3
    with pytest.raises(UsageError) as caught:
        train(write_config(tmp_path, other), resume=True, progress=False)
    assert "schedule.learning_rate was 0.003 and is 0.001" in str(caught.value)
    assert "model.head.convs was 2 and is 3" in str(caught.value)
    assert "batch" not in str(caught.value)


def test_other_annotations_are_not_resumed(finished: TrainConfig, tmp_path: Path) -> None:
    draw_data(tmp_path, images=3)
    with pytest.raises(UsageError, match=r"content of data\.train"):
        train(finished, resume=True, progress=False)


def test_where_and_how_a_run_is_computed_may_change(finished: TrainConfig, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    finished.output.rename(moved)
    content = content_of_config(tmp_path, steps=2, accumulate=2)
    content |= {"output": str(moved), "workers": 1, "evaluation": {"every_steps": 1}}
    assert train(write_config(tmp_path, content), resume=True, progress=False).steps == 2


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=2)
    config.output.mkdir()
    (config.output / CHECKPOINT).write_bytes(content)
    with pytest.raises(UsageError, match=r"checkpoint\.pt: not a readable checkpoint"):
        train(config, resume=True, progress=False)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_a_checkpoint_that_was_cut_off_is_named(part: float, finished: TrainConfig) -> None:
    path = finished.output / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UsageError, match=r"checkpoint\.pt: not a readable checkpoint, damaged or cut off"):
        train(finished, resume=True, progress=False)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_checkpoint_with_a_flipped_bit_is_named(part: float, finished: TrainConfig) -> None:
    path = finished.output / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[int(part * len(content))] ^= 16
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"checkpoint\.pt: .*damaged"):
        train(finished, resume=True, progress=False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "not a readable checkpoint .it holds a list"),
        ({"state_dict": {}}, "a checkpoint of another version"),
        ({"format": 2}, "a damaged checkpoint .KeyError"),
    ],
)
def test_another_file_of_that_name_is_named(content: object, expected: str, tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=2)
    config.output.mkdir()
    torch.save(content, config.output / CHECKPOINT)
    with pytest.raises(UsageError, match=expected):
        train(config, resume=True, progress=False)


def test_resume_without_a_checkpoint_begins(tmp_path: Path) -> None:
    assert train(make_config(tmp_path, steps=1), resume=True, progress=False).steps == 1


def test_a_loss_that_is_not_finite_names_the_images(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=20, learning_rate=1e30, warmup_steps=0, clip_norm=None)
    with pytest.raises(RunError, match=r"step \d+: the .*loss is not finite on the images .*[0-3]\.png"):
        train(config, progress=False)


def test_weights_are_left_as_they_were_when_the_loss_is_not_finite(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=20, learning_rate=1e30, warmup_steps=0, checkpoint_minutes=1e-9)
    with pytest.raises(RunError):
        train(config, progress=False)
    assert all(tensor.isfinite().all() for tensor in weights_of(config).values())


def test_a_run_reports_while_it_goes_on(validated: Outcome) -> None:
    output = validated.weights.parent
    with (output / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert {"AP mean", "AP disc", "AP50 box"} <= rows[0].keys()
    assert validated.table is not None
    assert "| disc | 4 | 4 |" in validated.table  # the last one takes all images
    for name in ("curves.png", "overlays.png"):
        picture = cv2.imread(str(output / name))
        assert picture.std() > 5, name
        assert picture.shape[1] > 600
    events = EventAccumulator(str(output / "tensorboard")).Reload()
    assert {"loss/mask", "loss/classes", "learning_rate", "AP/mean", "AP50/disc"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("AP/mean")] == [2, 4, 6]
    assert [event.step for event in events.Scalars("loss/mask")] == [1, 2, 3, 4, 5, 6]
    assert events.Tags()["images"] == ["overlays"]


def test_curves_are_drawn_without_validation_images_too(two_steps: tuple[Path, Outcome]) -> None:
    folder, outcome = two_steps
    assert outcome.table is None
    assert cv2.imread(str(folder / "run" / "curves.png")).std() > 5


def test_the_best_weights_are_kept_beside_the_last(validated: Outcome) -> None:
    assert validated.best is not None
    assert read_spec(validated.best) == load_detector(validated.weights).spec
    Segmenter.load(str(validated.best), device="cpu")


def test_weights_that_are_too_large_for_half_precision_end_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would end every run that goes on from there, too."""
    content = content_of_config(tmp_path, steps=2) | {"evaluation": {"every_steps": 1}}
    detector = Detector(write_config(tmp_path, content).model)
    detector.backbone.bn1.running_var.fill_(1e6)
    start = tmp_path / "start.safetensors"
    save_weights(detector, start, notes={})
    config = write_config(tmp_path, content | {"initial_weights": str(start)})
    outcome = train(config, progress=False, make_segment=make_segment)
    assert outcome.steps == 2
    assert outcome.best is not None
    for path in (outcome.weights, outcome.best):
        said = f"{path} is float32: tensor backbone.bn1.running_var holds values too large for fp16"
        assert said in caplog.messages
        assert float(load_detector(path).backbone.bn1.running_var.max()) == 1e6
    other = load_file(outcome.weights)["backbone.conv1.weight"]
    assert other.dtype == torch.float32


def test_bf16_learns_as_well(tmp_path: Path) -> None:
    content = content_of_config(tmp_path, steps=12, warmup_steps=2)
    config = write_config(tmp_path, content | {"precision": "bf16"})
    train(config, progress=False)
    losses = [float(row["mask_loss"]) for row in losses_of(config)]
    assert losses[-1] < 0.9 * losses[0]


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    config = write_config(tmp_path, content_of_config(tmp_path) | {"precision": "fp16"})
    with pytest.raises(UsageError, match="'fp16' needs a CUDA device"):
        train(config, progress=False)
