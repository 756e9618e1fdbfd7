"""Training on pictures that the test draws: it learns, resumes after a kill, and says what is wrong."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from streamseg.training.config import TrainConfig
from streamseg.training.loop import train
from streamseg.training.state import CHECKPOINT
from tests.training.drawn import content_of_config, write_config


def weights_of(config: TrainConfig) -> dict[str, Tensor]:
    content = torch.load(config.output / CHECKPOINT, weights_only=True)
    return {
        f"{part}.{name}": tensor
        for part in ("detector", "average")
        for name, tensor in content[part].items()
        if tensor.is_floating_point()
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], *, atol: float = 0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def losses_of(config: TrainConfig) -> list[dict[str, str]]:
    with (config.output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streamseg", "train", str(folder / "train.yaml"), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=100)
    return process.returncode, stderr.decode()


def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(tmp_path: Path) -> None:
    content = content_of_config(tmp_path, steps=60, checkpoint_minutes=1e-9)
    content |= {"evaluation": {"every_steps": 20}, "workers": 1}
    content["augment"] = {}
    undisturbed = write_config(tmp_path, content)
    train(undisturbed, progress=False)
    halted = write_config(tmp_path, content | {"output": str(tmp_path / "halted")})
    rng, kills = random.Random(), 0
    for _ in range(5):
        process = start(tmp_path, "--resume")
        _wait_for_a_new_row(halted.output / "log.csv", process)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        kills += finish(process)[0] == -signal.SIGKILL
    code, stderr = finish(start(tmp_path, "--resume"))
    assert code == 0, stderr
    assert kills >= 3
    assert_equal(weights_of(undisturbed), weights_of(halted))
    assert losses_of(halted) == losses_of(undisturbed)
    assert [int(row["step"]) for row in losses_of(halted)] == list(range(1, 61))


def _wait_for_a_new_row(path: Path, process: subprocess.Popen[bytes]) -> None:
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size <= before):
        time.sleep(0.005)
