"""More frames than the model can take: who is served, and how old results get.

benchmarks/cameras.py has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from streamseg.sources import Source
from streamseg.types import FrameResult, StreamState
from tests.support.media import write_clip
from tests.support.runs import Run
from tests.support.servers import RtspServer, rtsp_server
from tests.support.synthetic import SyntheticModel


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for fps in (2, 25):
        write_clip(folder / f"{fps}.mp4", frames=fps * 10, fps=fps, width=160, height=120, bframes=0, gop=fps)
    return folder


@pytest.fixture(scope="module")
def servers(media: Path) -> Iterator[list[RtspServer]]:
    with rtsp_server(media) as first, rtsp_server(media) as second:
        yield [first, second]


def cameras(servers: list[RtspServer], *rates: int) -> list[Source]:
    return [
        Source(id=f"cam{number}", url=servers[number % 2].url(f"{fps}.mp4"), live=True)
        for number, fps in enumerate(rates)
    ]


def start(run: Run, names: list[str]) -> None:
    run.wait_for_state(StreamState.LIVE, *names)
    for name in names:
        run.wait_for_results(name, 1)
    run.wait_for_results(names[0], 5)
    run.results = {name: [] for name in names}


@dataclass(frozen=True)
class Limits:
    """What is asked of a run: of any machine at any time, and of one that has nothing else to do."""

    seconds: float
    kept: float
    """Share of the fast cameras' frames that have a result, at least."""
    unfair: float
    """Share by which a camera may be off its part of the model, at most."""
    percentile: float
    latency_ms: tuple[float, float]
    """At that percentile at most: of a model that keeps up, and of one that is too slow."""


ANY = Limits(seconds=4, kept=0.95, unfair=0.15, percentile=50, latency_ms=(75, 300))
IDLE = Limits(seconds=20, kept=75 / 76, unfair=0.10, percentile=99, latency_ms=(75, 200))
LIMITS = [pytest.param(ANY, id="any"), pytest.param(IDLE, id="idle", marks=pytest.mark.soak)]


def latency(results: Sequence[FrameResult], percentile: float) -> float:
    return float(np.percentile([result.latency_ms for result in results], percentile))


@pytest.mark.parametrize("limits", LIMITS)
def test_a_slow_camera_is_served_at_its_full_rate_beside_fast_ones(
    servers: list[RtspServer], limits: Limits
) -> None:
    sources = cameras(servers, 25, 25, 25, 2)
    with Run(sources, model=SyntheticModel(0.010, 0.003)) as run:
        start(run, [source.id for source in sources])
        run.wait_for_results("cam3", round(2 * limits.seconds))
        served = {name: list(results) for name, results in run.results.items()}
    slow = served.pop("cam3")
    assert [result.frame for result in slow] == list(range(slow[0].frame, slow[0].frame + len(slow)))
    for name, results in served.items():
        kept = len(results) / (results[-1].frame - results[0].frame + 1)
        assert kept >= limits.kept, (name, run.stream(name).dropped)
        assert latency(results, limits.percentile) <= limits.latency_ms[0]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_cameras_share_a_model_that_is_too_slow_for_them(
    servers: list[RtspServer], asynchronous: bool, limits: Limits
) -> None:
    """80 of 200 frames/s."""
    sources = cameras(servers, *[25] * 8)
    model = SyntheticModel(0.0, 0.0125, asynchronous=asynchronous)
    with Run(sources, model=model) as run:
        start(run, [source.id for source in sources])
        run.wait_for_results("cam0", round(10 * limits.seconds))
        counts = {name: len(results) for name, results in run.results.items()}
        results = [result for some in run.results.values() for result in some]
    fair = sum(counts.values()) / len(counts)
    assert all(abs(count - fair) <= limits.unfair * fair + 1 for count in counts.values()), counts
    assert latency(results, limits.percentile) <= limits.latency_ms[1]
    assert all(stream.dropped["superseded"] > 10 for stream in run.pipeline.stats.streams.values())


def test_results_of_a_model_that_is_three_times_too_slow_do_not_get_older(servers: list[RtspServer]) -> None:
    with Run(cameras(servers, 25), model=SyntheticModel(0.120)) as run:
        start(run, ["cam0"])
        run.wait_for_results("cam0", 30)
        latencies = [result.latency_ms for result in run.results["cam0"]]
    assert max(latencies) < 500 + 120 + 100
    assert sorted(latencies[-10:])[5] < sorted(latencies[:10])[5] + 50
