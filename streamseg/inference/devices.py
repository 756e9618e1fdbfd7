"""Which device, and which precision is the fastest on it."""

from functools import cache
from pathlib import Path

import torch

from streamseg.errors import ConfigError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISION_NAMES = {dtype: name for name, dtype in PRECISIONS.items()}

_MEMORY_ORDER = {"cpu": torch.channels_last, "cuda": torch.channels_last}


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises ConfigError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: allowed are auto, cpu, cuda and cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"device {name!r}: allowed are auto, cpu, cuda and cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The data type of the network; ``auto`` is a half precision wherever the hardware computes it.

    bf16 convolutions are 3-4 times as fast as fp32 on a CPU with AMX, and slower on one that has to
    emulate them. GPUs compute fp16 as fast as bf16, and it keeps three bits more: against fp32, masks of
    the demo clip have a mean IoU of 0.99 instead of 0.96. Raises ConfigError if there is no such precision,
    or not on that device.
    """
    if name != "auto":
        if name not in PRECISIONS:
            raise ConfigError(f"precision {name!r}: allowed are auto, {', '.join(PRECISIONS)}")
        if name == "fp16" and device.type == "cpu":
            raise ConfigError("precision 'fp16' needs a CUDA device; on a CPU fp32 and bf16 are allowed")
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_bf16() else torch.float32


def memory_order(device: torch.device) -> torch.memory_format:
    """The order in memory of weights and maps that is the faster one on a kind of device.

    On a CPU channels-last: the bundled network takes 52 instead of 138 ms in fp32, 41 instead of 73 in bf16
    (one picture, two cores). On CUDA it is what tensor cores want, but torch's GroupNorm, which
    the heads of the published models have after every convolution, takes and gives the other order: each
    of their layers copies its map twice. ``benchmarks/gpu.py`` measures both orders on its card.
    """
    return _MEMORY_ORDER[device.type]


@cache
def _cpu_computes_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
