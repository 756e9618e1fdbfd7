"""However a step is split among processes and parts, its loss and the weights after it are the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from streamseg.errors import RunError, UsageError
from streamseg.training.config import TrainConfig
from streamseg.training.loop import train
from tests.support.drawn import content_of_config, make_segment, write_config
from tests.training.test_loop import assert_same_tensors, losses_of, weights_of


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Fabric sets the number of threads in the processes it starts, this one's must not change."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def content(folder: Path, name: str, **schedule: object) -> dict[str, Any]:
    # SGD: AdamW divides a gradient by its size, so that one of 1e-9 moves a weight as far as one of 1.
    values = content_of_config(folder, batch=4, optimizer="sgd", learning_rate=0.02, **schedule)
    return values | {"output": str(folder / name), "augment": {"copy_paste": 1.0}}


def run(folder: Path, values: dict[str, Any], **options: Any) -> TrainConfig:
    config = write_config(folder, values)
    train(config, progress=False, **options)
    return config


def assert_same_run(one: TrainConfig, other: TrainConfig) -> None:
    first, second = losses_of(one), losses_of(other)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx(
            {k: float(v) for k, v in b.items()}, abs=2e-5
        )
    assert_same_tensors(weights_of(one), weights_of(other), atol=1e-6)


def test_parts_one_after_the_other_equal_the_whole(tmp_path: Path) -> None:
    whole = run(tmp_path, content(tmp_path, "whole"))
    for parts in (2, 4):
        assert_same_run(whole, run(tmp_path, content(tmp_path, f"in {parts}", accumulate=parts)))


def test_two_processes_equal_one_with_the_double_batch(tmp_path: Path) -> None:
    whole = run(tmp_path, content(tmp_path, "whole"), make_segment=make_segment)
    shared = run(tmp_path, content(tmp_path, "shared") | {"devices": 2}, make_segment=make_segment)
    assert_same_run(whole, shared)
    for name in ("evaluation.md", "evaluation.csv"):
        assert (shared.output / name).read_text() == (whole.output / name).read_text()


def test_the_processes_and_their_parts_equal_one_process(tmp_path: Path) -> None:
    whole = run(tmp_path, content(tmp_path, "whole"))
    assert_same_run(whole, run(tmp_path, content(tmp_path, "split", accumulate=2) | {"devices": 2}))


def test_an_error_of_one_process_is_told_as_it_is(tmp_path: Path) -> None:
    values = content(tmp_path, "poisoned", steps=20, warmup_steps=0) | {"devices": 2}
    values["schedule"]["learning_rate"] = 1e30
    with pytest.raises(RunError, match=r"^step \d+: the .*loss is not finite on the images .*\.png"):
        run(tmp_path, values)


def test_more_gpus_than_there_are_are_refused(tmp_path: Path) -> None:
    values = content(tmp_path, "gpus") | {"devices": 2, "device": "cuda"}
    if torch.cuda.device_count() >= 2:
        pytest.skip("this machine has them")
    with pytest.raises(UsageError, match="this machine has"):
        run(tmp_path, values)
