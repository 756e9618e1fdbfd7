"""Packets that are lost on the way from a real RTP sender: counted, told, and dropped if that is wanted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from streamseg.sources import Source, SourcePool, Timing
from streamseg.types import FramesDamaged, FramesDropped
from tests.support.reading import Listener
from tests.support.rtp_camera import RtpCamera, rtp_camera


@pytest.fixture
def camera() -> Iterator[RtpCamera]:
    with rtp_camera() as running:
        yield running


def source(camera: RtpCamera, damaged: str) -> Source:
    return Source(id="cam", url=camera.url, live=True, transport="udp", damaged=damaged)  # type: ignore[arg-type]


def damage(listener: Listener) -> tuple[int, int]:
    """Damaged frames and lost packets."""
    events = [event for event in listener.events if isinstance(event, FramesDamaged)]
    return sum(event.concealed for event in events), sum(event.packets for event in events)


def dropped(listener: Listener, reason: str) -> int:
    return sum(e.count for e in listener.events if isinstance(e, FramesDropped) and e.reason == reason)


def test_lost_packets_are_counted(camera: RtpCamera, caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    with SourcePool([source(camera, "drop")], emit=listener, timing=Timing(damage_told=0.0)):
        listener.wait(lambda: len(listener.seen.get("cam", [])) >= 30)
        assert damage(listener) == (0, 0), "nothing was lost yet"
        camera.lose_every = 20
        listener.wait(lambda: damage(listener)[1] >= 10)
        camera.lose_every = 0
        before = len(listener.seen["cam"])
        listener.wait(lambda: len(listener.seen["cam"]) >= before + 50)
    frames, packets = damage(listener)
    assert packets == pytest.approx(camera.lost, abs=2)
    assert frames >= 5
    assert dropped(listener, "damaged") == frames
    assert listener.decoded("cam") == listener.seen["cam"][-1].index + 1
    assert f"{frames} damaged frames (dropped)" in caplog.text
    assert f"{packets} packets lost" in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("streamseg")]
    assert {record.levelno for record in ours} == {logging.WARNING}
