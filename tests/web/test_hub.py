"""What the page knows of the streams."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from streamseg.config import OverlayOptions
from streamseg.types import FramePolicy, StreamEnd, StreamInfo
from streamseg.web.history import SECONDS, CountHistory
from streamseg.web.hub import LARGE, PICTURE_SECONDS, TILE, Hub
from streamseg.web.output import ViewOutput
from streamseg.web.thumbnail import painted_jpeg, shrink
from tests.support.moving import objects_in
from tests.support.web import feed, is_jpeg, showing


def test_counts_are_the_highest_of_each_second() -> None:
    history = CountHistory()
    history.add(["car", "car"], time=100.1)
    history.add(["car", "person"], time=100.9)
    history.add([], time=102.0)
    assert history.since(0, now=103.5) == [(100, {"car": 2, "person": 1}), (102, {})]
    assert history.since(100, now=103.5) == [(102, {})]
    assert history.since(0, now=102.5) == [(100, {"car": 2, "person": 1})], "a second that is not over"


def test_counts_are_kept_for_minutes_only() -> None:
    history = CountHistory()
    for second in range(2 * SECONDS):
        history.add(["car"], time=float(second))
    assert len(history.since(0, now=2.0 * SECONDS)) == SECONDS - 1
    assert history.since(0, now=10.0 * SECONDS) == []


def test_pictures_are_made_for_whoever_looks() -> None:
    now = 100.0
    hub = Hub(lambda: now)
    lobby, yard = showing(hub, "lobby"), showing(hub, "yard")
    hub.watch("one", {"lobby": TILE})
    feed(lobby, "lobby", 6, height=1080, width=1920)
    assert (picture := hub.picture("lobby")) is not None
    assert is_jpeg(picture.jpeg, width=TILE)
    feed(lobby, "lobby", 7, height=1080, width=1920)
    assert hub.picture("lobby") is picture, "a second one comes no sooner than the eye needs it"
    now += PICTURE_SECONDS
    feed(lobby, "lobby", 8, height=1080, width=1920)
    assert hub.picture("lobby") is not picture
    hub.watch("two", {"yard": LARGE})
    feed(yard, "yard", 6, height=1080, width=1920)
    assert (picture := hub.picture("yard")) is not None
    assert is_jpeg(picture.jpeg, width=LARGE)
    assert hub.watched == {"lobby", "yard"}
    hub.watch("one", {})
    assert hub.watched == {"yard"}


@pytest.mark.parametrize(
    ("end", "state"),
    [(StreamEnd.ENDED, "ended"), (StreamEnd.STOPPED, "ended"), (StreamEnd.FAILED, "live")],
)
def test_a_picture_is_there_for_whoever_comes_after_the_end(end: StreamEnd, state: str) -> None:
    hub = Hub()
    writer = showing(hub, "clip")
    feed(writer, "clip", 0)
    hub.report("clip", state="live")
    writer.close(end)  # as failed also if it could not be shown: how its source does, the run tells
    assert hub.picture("clip") is not None
    assert hub.status()[0]["state"] == state


def test_the_state_of_a_stream_is_what_the_run_says() -> None:
    hub = Hub()
    output = ViewOutput(hub)
    output.report("lobby", state="connecting", source="rtsp://camera/1")
    info = StreamInfo(
        "lobby", "rtsp://camera/1", FramePolicy.NEWEST_FRAME, 2, 320, 240, Fraction(1, 25), 25, None
    )
    writer = output.open(info)
    output.report("lobby", state="live", dropped=3)
    result = feed(writer, "lobby", 10)
    (status,) = hub.status()
    assert status["state"] == "live"
    assert (status["width"], status["height"], status["dropped"], status["reconnects"]) == (320, 240, 3, 2)
    assert status["latency_ms"] == pytest.approx(result.latency_ms, abs=0.1)
    assert status["fps"] == 0.2  # one result in the last five seconds


@pytest.mark.parametrize("size", [(640, 360), (37, 23), (1, 1)])
def test_shrunken_instances_fit_their_picture(size: tuple[int, int]) -> None:
    found = shrink(objects_in(60, 1080, 1920), size)
    assert len(found) > 2
    for (x1, y1, x2, y2), crop in zip(found.boxes.tolist(), found.crops, strict=True):
        assert 0 <= x1 < x2 <= size[0]
        assert 0 <= y1 < y2 <= size[1]
        assert crop.shape == (y2 - y1, x2 - x1)
    assert is_jpeg(painted_jpeg(np.zeros((size[1], size[0], 3), np.uint8), found, width=4000), width=size[0])


def test_what_is_blurred_in_the_video_is_blurred_on_the_page() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    found = objects_in(60, 240, 320)
    nothing = {"masks": False, "outlines": False, "labels": False, "ids": False}

    def picture(*blur: str) -> np.ndarray:
        jpeg = painted_jpeg(pixels, found, width=320, options=OverlayOptions(**nothing, blur=blur))
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)

    plain, blurred = picture(), picture("person")
    for label, (x1, y1, x2, y2) in zip(found.labels, found.boxes.tolist(), strict=True):
        noise = [p[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].std() for p in (plain, blurred)]
        assert (noise[1] < noise[0] / 2) == (label == "person")
