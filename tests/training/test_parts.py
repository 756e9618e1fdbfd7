"""However a step is split among processes and parts, its loss and the weights after it are the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from streamseg.errors import ConfigError, RunError, UsageError
from streamseg.training.config import TrainConfig
from streamseg.training.loop import train
from streamseg.training.processes import make_fabric
from tests.support.drawn import content_of_config, make_segment, write_config
from tests.training.programs import Program
from tests.training.test_loop import assert_same_tensors, losses_of, weights_of


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Fabric sets the number of threads in the processes it starts, this one's must not change."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def content(folder: Path, name: str, **schedule: object) -> dict[str, Any]:
    # SGD: AdamW divides a gradient by its size, so that one of 1e-9 moves a weight as far as one of 1.
    sgd = {"batch": 4, "optimizer": "sgd", "learning_rate": 0.02, "decay": "steps", "milestones": [4]}
    values = content_of_config(folder, **(sgd | schedule))
    return values | {"output": str(folder / name), "augment": {"copy_paste": 1.0}}


def run(folder: Path, values: dict[str, Any], **options: Any) -> TrainConfig:
    config = write_config(folder, values)
    train(config, progress=False, **options)
    return config


def assert_same_run(one: TrainConfig, other: TrainConfig) -> None:
    assert_same_losses(losses_of(one), losses_of(other))
    assert_same_tensors(weights_of(one), weights_of(other), atol=1e-6)


def assert_same_losses(first: list[dict[str, str]], second: list[dict[str, str]]) -> None:
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx(
            {k: float(v) for k, v in b.items()}, abs=2e-5
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Four steps of one process that takes each in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, content(folder, "whole"), make_segment=make_segment)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_one_after_the_other_equal_the_whole(parts: int, whole: TrainConfig, tmp_path: Path) -> None:
    assert_same_run(whole, run(tmp_path, content(tmp_path, "in parts", accumulate=parts)))


@pytest.mark.timeout(300)  # two processes import everything anew
def test_two_processes_and_their_parts_equal_one_process(
    whole: TrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = content(tmp_path, "split", accumulate=2) | {"devices": 2}
    split = run(tmp_path, values, make_segment=make_segment)
    assert capfd.readouterr().err == ""  # neither torch nor Fabric tells what it does
    assert_same_run(whole, split)
    for name in ("evaluation.md", "evaluation.csv"):
        assert (split.output / name).read_text() == (whole.output / name).read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_processes_listen_to_it_ends_them(number: signal.Signals, tmp_path: Path) -> None:
    write_config(tmp_path, content(tmp_path, "stopped", steps=10_000) | {"devices": 2})
    program = Program(tmp_path)
    program.wait_for(lambda: len(program.spawned()) == 2)
    program.send_signal(number)
    code, stderr = program.finish()
    assert code == 128 + number, stderr
    assert "stopped before a step was taken" in stderr
    assert "Traceback" not in stderr


@pytest.mark.timeout(300)
def test_a_process_that_the_system_kills_is_told_in_one_line(tmp_path: Path) -> None:
    write_config(tmp_path, content(tmp_path, "killed", steps=10_000) | {"devices": 2})
    program = Program(tmp_path)
    program.wait_for(lambda: len(program.spawned()) == 2)
    os.kill(program.spawned()[0], signal.SIGKILL)
    code, stderr = program.finish()
    assert code == 1, stderr
    assert (
        "error: a training process was ended from outside (SIGKILL, as the system does when memory" in stderr
    )
    assert "Traceback" not in stderr


@pytest.mark.timeout(300)
def test_two_processes_equal_one_until_one_fails_and_its_error_is_told_as_it_is(
    whole: TrainConfig, tmp_path: Path
) -> None:
    """Each takes its half in one piece; after the milestone the learning rate is beyond all reason."""
    values = content(tmp_path, "poisoned", steps=20, milestone_factor=1e33) | {"devices": 2}
    with pytest.raises(RunError, match=r"^step \d+: the .*loss is not finite on the images .*\.png"):
        run(tmp_path, values)
    assert_same_losses(losses_of(whole), losses_of(write_config(tmp_path, values))[:4])


def test_more_gpus_than_there_are_are_refused(tmp_path: Path) -> None:
    values = content(tmp_path, "gpus") | {"devices": 2, "device": "cuda"}
    if torch.cuda.device_count() >= 2:
        pytest.skip("this machine has them")
    with pytest.raises(UsageError, match="this machine has"):
        run(tmp_path, values)


def test_tasks_of_slurm_are_as_many_as_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path, content(tmp_path, "slurm"))
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(ConfigError, match=r"^devices 1: SLURM has started 4 processes; give devices: 4, or"):
        train(config, progress=False)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    make_fabric(config)


def test_a_task_of_slurm_may_be_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"SLURM_NTASKS": "2", "TORCHELASTIC_RUN_ID": "one", "WORLD_SIZE": "1", "RANK": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    make_fabric(write_config(tmp_path, content(tmp_path, "both")))


@pytest.mark.timeout(300)
def test_processes_of_torchrun_are_as_many_as_devices(tmp_path: Path) -> None:
    """Each would train alone, both in one folder."""
    write_config(tmp_path, content(tmp_path, "torchrun"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "streamseg", "train", str(tmp_path / "train.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    expected = "error: devices 1: torchrun has started 2 processes; give devices: 2, or let torchrun start 1"
    assert expected in done.stderr.splitlines()
    assert not (tmp_path / "torchrun").exists()
