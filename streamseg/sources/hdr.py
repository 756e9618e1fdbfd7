"""High dynamic range brought into the range of an ordinary picture: for the network, and for the overlay.

The whole way from PQ or HLG in BT.2020 to gamma-coded BT.709 is one function of R, G and B. It is computed
once on a lattice, and FFmpeg's filter ``lut3d`` interpolates it.
"""

from __future__ import annotations

import tempfile
from functools import cache

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

PQ, HLG = 16, 18
"""ITU-T H.273 code points of the transfer functions."""
LATTICE = 33
"""Points along each axis."""
WHITE = 203.0
"""cd/m2 that become white where nothing is brighter: the reference white of ITU-R BT.2408."""
PEAK = 1000.0
"""cd/m2 that are the brightest white: most HDR is graded for that, and HLG is defined with it."""
KNEE = 0.7
"""Share of white up to which light is left as it is."""
GAMMA = 2.4
"""Of the display, ITU-R BT.1886."""
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Linear BT.2020 to linear BT.709, ITU-R BT.2087."""


def is_hdr(frame: VideoFrame) -> bool:
    """Whether a frame is coded with PQ or HLG."""
    return frame.color_trc in {PQ, HLG}


class ToneMapper:
    """Frames of one size in PQ or HLG to SDR."""

    def __init__(self, first: VideoFrame) -> None:
        """``first`` gives size, colour matrix and transfer function."""
        self._graph = Graph()
        with tempfile.NamedTemporaryFile("w", suffix=".cube") as file:
            file.write(_cube(first.color_trc))
            file.flush()
            source = self._graph.add_buffer(
                width=first.width, height=first.height, format=first.format, time_base=first.time_base
            )
            limited = "pc" if first.color_range == 2 else "tv"
            self._graph.link_nodes(
                source,
                self._graph.add("scale", f"in_color_matrix=bt2020:in_range={limited}:out_range=pc"),
                self._graph.add("format", "gbrp16le"),
                self._graph.add("lut3d", f"file={file.name}:interp=tetrahedral"),
                self._graph.add("format", "gbrp"),
                self._graph.add("buffersink"),
            ).configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame in 8-bit planar RGB."""
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, VideoFrame)
        return mapped


@cache
def _cube(transfer: int) -> str:
    """The lattice as a .cube file, red the fastest."""
    axis = np.linspace(0, 1, LATTICE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    mapped = to_sdr(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
    lines = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in mapped.tolist())
    return f"LUT_3D_SIZE {LATTICE}\n{lines}\n"


def to_sdr(coded: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """(N, 3) R, G, B in [0, 1] in BT.2020, coded with :data:`PQ` or :data:`HLG` -> SDR in BT.709."""
    light = (_pq_light(coded) if transfer == PQ else _hlg_light(coded)) / WHITE
    brightest = light.max(axis=1, keepdims=True)
    # All three by one factor, so that the hue stays.
    light = light * (_roll_off(brightest) / np.maximum(brightest, 1e-9))
    return np.asarray(np.clip(light @ TO_BT709.T, 0, 1) ** (1 / GAMMA))


def _roll_off(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave light up to the knee as it is, and bend what is above so that the peak becomes 1.

    Reinhard et al. 2002, equation 4, above the knee.
    """
    t = np.clip((light - KNEE) / (1 - KNEE), 0, None)
    peak = (PEAK / WHITE - KNEE) / (1 - KNEE)
    return np.minimum(light, KNEE) + (1 - KNEE) * np.minimum(t * (1 + t / peak**2) / (1 + t), 1)


def _pq_light(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m2 on the display, SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = coded ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def _hlg_light(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m2 on a display of 1000 cd/m2, ITU-R BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(PEAK * scene * luma[:, None] ** 0.2)
