"""How many processes a run has, on which devices, and how errors get out of them."""

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from streamseg import errors
from streamseg.errors import ConfigError, RunError, StreamsegError
from streamseg.training.config import TrainConfig

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(config: TrainConfig) -> Fabric:
    """Fabric for a configuration, nothing launched. Raises ConfigError for what this machine has not."""
    device, _, index = config.device.partition(":")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        _check_gpus(int(index or 0) + 1 if index else config.devices)
    elif config.precision == "fp16":
        raise ConfigError("precision 'fp16' needs a CUDA device; on a CPU fp32 and bf16 are allowed")
    if index and config.devices > 1:
        raise ConfigError(f"device {config.device} is one GPU, devices is {config.devices}: use device: cuda")
    return Fabric(
        accelerator=device,
        devices=[int(index)] if index else config.devices,
        strategy=_strategy(config) if config.devices > 1 else "auto",
        precision=_PRECISIONS[config.precision],  # type: ignore[arg-type]  # a Literal of all it knows
    )


def _check_gpus(wanted: int) -> None:
    if wanted > torch.cuda.device_count():
        raise ConfigError(f"device cuda: this machine has {torch.cuda.device_count()} CUDA devices")


def _strategy(config: TrainConfig) -> DDPStrategy:
    # A pyramid map that no level reads leaves its convolution without a gradient.
    return DDPStrategy(start_method="spawn" if spawns(config) else "popen", find_unused_parameters=True)


def spawns(config: TrainConfig) -> bool:
    """Whether this process only starts the others and waits for them."""
    outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    return config.devices > 1 and config.strategy != "ddp" and not outside


def configure_spawned(level: int, *, first: bool) -> None:
    """Logging of a spawned process, which has none: the first one speaks as the program does."""
    logging.basicConfig(
        level=level if first else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def raised_there(error: ProcessRaisedException) -> StreamsegError:
    """What a spawned process raised: torch hands on the text of its traceback."""
    kind, _, text = str(error).strip().splitlines()[-1].partition(": ")
    found = getattr(errors, kind.rpartition(".")[2], None) if kind.startswith("streamseg.errors.") else None
    return found(text) if found is not None else RunError(f"a training process failed: {kind}: {text}")
