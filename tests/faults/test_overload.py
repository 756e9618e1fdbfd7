"""More frames than the model can take: who is served, and how old results get. Limits are generous here;
benchmarks/cameras.py has the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.sources import Source
from streamseg.types import StreamState
from tests.faults.helpers import Run
from tests.media import write_clip
from tests.servers import RtspServer, rtsp_server
from tests.synthetic import SyntheticModel


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


def test_a_slow_camera_is_served_at_its_full_rate_beside_fast_ones(servers: list[RtspServer]) -> None:
    sources = cameras(servers, 25, 25, 25, 2)
    with Run(sources, model=SyntheticModel(0.010, 0.003)) as run:
        start(run, [source.id for source in sources])
        run.wait_for_results("cam3", 8)
        served = {name: list(results) for name, results in run.results.items()}
    for results in served.values():
        kept = len(results) / (results[-1].frame - results[0].frame + 1)
        assert kept >= 0.95
    latencies = sorted(result.latency_ms for results in served.values() for result in results)
    assert latencies[len(latencies) // 2] < 75


@pytest.mark.parametrize("asynchronous", [False, True])
def test_cameras_share_a_model_that_is_too_slow_for_them(
    servers: list[RtspServer], asynchronous: bool
) -> None:
    sources = cameras(servers, *[25] * 6)
    model = SyntheticModel(0.0, 0.020, asynchronous=asynchronous)  # 50 frames/s of 150
    with Run(sources, model=model, max_batch=4) as run:
        start(run, [source.id for source in sources])
        run.wait_for_results("cam0", 25)
        counts = {name: len(results) for name, results in run.results.items()}
        results = [result for some in run.results.values() for result in some]
    fair = sum(counts.values()) / len(counts)
    assert all(abs(count - fair) <= 0.1 * fair + 1 for count in counts.values()), counts
    assert sorted(result.latency_ms for result in results)[len(results) // 2] < 300
    assert all(stream.dropped["superseded"] > 10 for stream in run.pipeline.summary.streams.values())


def test_results_of_a_model_that_is_three_times_too_slow_do_not_get_older(servers: list[RtspServer]) -> None:
    with Run(cameras(servers, 25), model=SyntheticModel(0.120)) as run:
        start(run, ["cam0"])
        run.wait_for_results("cam0", 30)
        latencies = [result.latency_ms for result in run.results["cam0"]]
    assert max(latencies) < 500 + 120 + 100
    assert sorted(latencies[-10:])[5] < sorted(latencies[:10])[5] + 50
