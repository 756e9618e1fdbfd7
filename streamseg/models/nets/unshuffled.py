"""ShuffleNetV2 for inference, without its shuffles: the same values, channels in another order.

A shuffle moves every channel in memory, and does no more than decide which later unit reads it. That is
known beforehand. So the maps of all units stay where they are, each with its channels in the order in which
they are read, and a unit reads one slice of each. On a CPU with AMX shuffles took a third of the bundled
network's time in OpenVINO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from streamseg.models.nets.shufflenet import ShuffleNetV2, Unit


@dataclass(frozen=True, slots=True)
class _Slice:
    """Channels of one of a stage's maps."""

    map: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a unit reads, or what reads the stage."""

    slices: list[_Slice]
    places: list[int]
    """Where each of the channels read stood among those that were shuffled."""


def remove_shuffles(backbone: ShuffleNetV2) -> list[list[int]]:
    """From now on the backbone only infers, and its maps have their channels in another order.

    Returns, for C2 to C5, which of the channels that it gave before stands in each place.
    """
    orders = [list(range(backbone.channels[0]))]
    for name in ("stage2", "stage3", "stage4"):
        stage = _Stage(getattr(backbone, name), orders[-1])
        setattr(backbone, name, stage)
        orders.append(stage.order)
    return orders


class _Stage(nn.Module):
    """Units of which each adds a map of half the stage's channels; two come from the first one."""

    def __init__(self, units: nn.Sequential, order: Sequence[int]) -> None:
        """``order``: which of the shuffled channels stands in each place of the input."""
        super().__init__()
        self.units = units
        first, *others = self._all()
        half = first.branch_channels
        orders, self._readings = _plan(half, len(units))
        self.order = self._readings[-1].places
        depthwise, pointwise = first.branch1
        reorder(depthwise, outputs=order)
        reorder(pointwise, inputs=order, outputs=orders[0])
        reorder(first.branch2[0], inputs=order)
        for unit, reading in zip(others, self._readings[:-1], strict=True):
            reorder(unit.branch2[0], inputs=reading.places)
        for unit, of_map in zip((first, *others), orders[1:], strict=True):
            reorder(unit.branch2[-1], outputs=of_map)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 2 * half, H / 2, W / 2)."""
        first, *others = self._all()
        maps = [first.beside(x), first.changed(x)]
        for unit, reading in zip(others, self._readings[:-1], strict=True):
            maps.append(unit.changed(_read(maps, reading)))
        return _read(maps, self._readings[-1])

    def _all(self) -> list[Unit]:
        return cast("list[Unit]", list(self.units))


def reorder(
    conv: nn.Module, *, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
) -> None:
    """Give a convolution its channels in another order: in place ``i`` stands what stood in ``order[i]``."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    weight, bias = conv.weight.detach(), conv.bias.detach()
    if outputs is not None:
        weight, bias = weight[list(outputs)], bias[list(outputs)]
    if inputs is not None:
        weight = weight[:, list(inputs)]
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)


def _plan(half: int, units: int) -> tuple[list[list[int]], list[_Reading]]:
    """Follow the channels of a stage's maps through its shuffles.

    Returns the order of each map's channels, and the readings of all units but the first, and of the stage's
    output.
    """
    channels = _by_turns(_channels(0, half), _channels(1, half))
    read: list[list[tuple[int, int]]] = []
    for unit in range(1, units):
        stay, taken = channels[:half], channels[half:]
        read.append(taken)
        channels = _by_turns(stay, _channels(unit + 1, half))
    read.append(channels)
    reader = {channel: number for number, taken in enumerate(read) for channel in taken}
    orders = [
        [channel for _, channel in sorted((reader[map_, channel], channel) for channel in range(half))]
        for map_ in range(units + 1)
    ]
    return orders, [_reading(number, taken, orders, reader) for number, taken in enumerate(read)]


def _channels(map_: int, count: int) -> list[tuple[int, int]]:
    return [(map_, channel) for channel in range(count)]


def _by_turns(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What a shuffle does."""
    return [channel for pair in zip(first, second, strict=True) for channel in pair]


def _reading(
    number: int,
    taken: Sequence[tuple[int, int]],
    orders: Sequence[Sequence[int]],
    reader: dict[tuple[int, int], int],
) -> _Reading:
    slices, places = [], []
    stood = {channel: place for place, channel in enumerate(taken)}
    for map_, order in enumerate(orders):
        inside = [place for place, channel in enumerate(order) if reader[map_, channel] == number]
        if inside:
            slices.append(_Slice(map_, inside[0], inside[-1] + 1))
            places += [stood[map_, order[place]] for place in inside]
    return _Reading(slices, places)


def _read(maps: Sequence[Tensor], reading: _Reading) -> Tensor:
    return torch.cat([maps[s.map][:, s.first : s.end] for s in reading.slices], dim=1)
