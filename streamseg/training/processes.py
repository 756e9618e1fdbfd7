"""The processes of a run: their devices, how signals stop them, and how errors get out of them."""

import logging
import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from streamseg import errors
from streamseg.errors import ConfigError, RunError, StreamsegError
from streamseg.training.config import TrainConfig

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells users what they have configured


def make_fabric(config: TrainConfig) -> Fabric:
    """Fabric for a configuration, not launched yet.

    Raises ConfigError if this machine lacks a device, or if torchrun or SLURM has started another number of
    processes: each would train alone, all in one folder.
    """
    _check_started(config.devices)
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


def _check_started(devices: int) -> None:
    starter, started = _started_outside()
    if started is not None and started != devices:
        raise ConfigError(
            f"devices {devices}: {starter} has started {started} processes; give devices: {started}, or let "
            f"{starter} start {devices}"
        )


def _started_outside() -> tuple[str, int | None]:
    """Which program has started the processes, and how many; None if they are ours to start."""
    if TorchElasticEnvironment.detect():  # also as a task of SLURM's
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect():
        return "SLURM", int(os.environ["SLURM_NTASKS"])
    return "", None


def _strategy(config: TrainConfig) -> DDPStrategy:
    # A pyramid map that no level reads leaves its convolution without a gradient.
    return DDPStrategy(start_method="spawn" if spawns(config) else "popen", find_unused_parameters=True)


def spawns(config: TrainConfig) -> bool:
    """Whether this process only starts the others and waits for them."""
    return config.devices > 1 and config.strategy != "ddp" and _started_outside()[1] is None


def quieten_spawned() -> None:
    """Have processes that are yet to be spawned leave out warnings of torch's C++ code.

    Each would tell, in a paragraph, that it looks for parameters without a gradient, as it is meant to.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def configure_spawned(level: int, *, first: bool) -> None:
    """Set up a spawned process: the first one logs as the program does, others only warnings.

    Until the run listens to signals, SIGINT is left to the parent, which ends its processes: torch would take
    the KeyboardInterrupt for a good end, and the parent would wait for a result for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        level=level if first else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def spawned_error(error: ProcessRaisedException | ProcessExitedException) -> StreamsegError:
    """Why a spawned process failed: the error that it raised, or what ended it."""
    if isinstance(error, ProcessRaisedException):
        return _raised_again(error)
    how = error.signal_name or f"exit code {error.exit_code}"
    if how == "SIGKILL":
        how += ", as the system does when memory runs out: lower schedule.batch or raise schedule.accumulate"
    return RunError(
        f"a training process was ended from outside ({how}); --resume goes on from the last checkpoint"
    )


def _raised_again(error: ProcessRaisedException) -> StreamsegError:
    """The error of another process, made again from its traceback's text: torch gives no more."""
    kind, _, text = str(error).strip().splitlines()[-1].partition(": ")
    found = getattr(errors, kind.rpartition(".")[2], None) if kind.startswith("streamseg.errors.") else None
    return found(text) if found is not None else RunError(f"a training process failed: {kind}: {text}")


class StopRequest:
    """Remembers the first SIGINT or SIGTERM, so that the step is finished and a checkpoint written.

    A second signal aborts. In a spawned process further signals mean no more than the first, because
    the terminal and the parent may both have sent one; the end of the parent counts as a signal.
    """

    def __init__(self, *, spawned: bool = False) -> None:
        self.signal: int | None = None
        self._spawned = spawned
        self._parent = os.getppid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def wanted(self) -> bool:
        """Whether to stop."""
        if self._spawned and os.getppid() != self._parent and self.signal is None:
            self.signal = signal.SIGTERM
        return self.signal is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            logger.info("stopping after this step; once more to abort")
        elif not self._spawned:
            os._exit(128 + number)


class SignalForwarder(StopRequest):
    """For a process that only waits for those it spawned: passes the signal on; a second one kills them."""

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + number)
        self.signal = number
        for child in multiprocessing.active_children():
            child.terminate()
