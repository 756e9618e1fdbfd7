"""What an engine is told of a stream makes the source and the rules that its owner has."""

from __future__ import annotations

import pytest

from streamseg.config import RunConfig, StreamConfig, parse_config
from streamseg.runtime.build import build_streams
from streamseg.runtime.stats import StreamStats
from streamseg.scale.totals import StreamTotals
from streamseg.scale.wanted import SharedStream

STREAMS = [
    {"url": "rtsp://10.0.0.1/a", "user": "me", "password": "p@ss/word", "transport": "udp", "score": 0.5},
    {"url": "rtsp://10.0.0.1/b", "first_epoch": 7},
    {"url": "clip.mp4", "id": "c", "start": 1.5, "end": 3, "stride": 2, "classes": ["person"]},
    {
        "url": "http://10.0.0.1/x.mjpg",
        "live": True,
        "stalled_after": 9,
        "damaged": "drop",
        "reconnect_attempts": 3,
        "region": [[0, 0], [1, 0], [1, 1]],
        "ignore": [[[0, 0], [0.5, 0], [0.5, 1]]],
        "zones": {"door": {"polygon": [[0, 0], [1, 0], [1, 1]], "dwell": 2}},
        "lines": {"gate": {"points": [[0, 0], [1, 1]], "anchor": "centre"}},
    },
]


@pytest.mark.parametrize("stream", STREAMS)
def test_the_configuration_of_a_stream_survives_the_way(stream: dict[str, object]) -> None:
    ((source, rules),) = build_streams(parse_config({"streams": [stream]}, where="test"))
    shared = SharedStream(source, rules, StreamTotals(StreamStats(), resumed=False), None)
    told = StreamConfig.model_validate(shared.wanted().config)
    assert build_streams(RunConfig(streams=(told,))) == [(source, rules)]
    assert shared.wanted().first_epoch == 0
    shared.epoch = 4
    assert shared.wanted().first_epoch == (0 if source.recorded else 5)
