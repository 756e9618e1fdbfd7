"""Events of zones and lines: files, HTTP requests and MQTT, with servers that fail."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from streamseg.errors import OutputGoneError, UsageError
from streamseg.outputs.mqtt import MqttOutput
from streamseg.outputs.webhook import WebhookOutput
from streamseg.types import FrameResult, StreamInfo
from tests.support.broker import free_port, wait_for
from tests.support.clips import happening, info
from tests.support.media import write_clip
from tests.support.mqtt import Listener, MqttBroker
from tests.support.receiver import Receiver
from tests.support.runs import events_of, run_watched


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=60)


@pytest.fixture
def broker() -> Iterator[MqttBroker]:
    broker = MqttBroker(free_port())
    yield broker
    broker.close()


def test_events_are_lines_of_a_file_and_stand_in_the_results(clip: Path, tmp_path: Path) -> None:
    results = run_watched(clip, outputs=[{"type": "events", "path": str(tmp_path / "events.ndjson")}])
    told = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    assert told == events_of(results)
    assert {event["event"] for event in told} >= {"enter", "cross"}
    for result in results:  # an object that is hidden for a moment is still there
        assert result["counts"]["left"] >= sum("left" in found["zones"] for found in result["instances"])


@pytest.mark.parametrize("status", [301, 302, 307, 308, 500, 503, 429])
def test_a_webhook_gets_every_event_once_whatever_its_first_answer(clip: Path, status: int) -> None:
    receiver = Receiver(answers=[status, 200, status])
    try:
        results = run_watched(clip, outputs=[{"type": "webhook", "url": receiver.url}])
    finally:
        receiver.close()
    assert receiver.accepted == events_of(results)


def test_a_webhook_that_refuses_an_event_gets_the_next_one(
    clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(answers=[404])
    try:
        results = run_watched(clip, outputs=[{"type": "webhook", "url": receiver.url}])
    finally:
        receiver.close()
    assert receiver.accepted == events_of(results)[1:]
    assert "refuses an event (HTTP 404" in caplog.text


LOGIN = "user:pa55/w@rd"


def with_login(url: str) -> str:
    return url.replace("://", "://user:pa55%2Fw%40rd@")


def test_a_webhook_with_user_and_password_gets_every_event(clip: Path) -> None:
    receiver = Receiver(login=LOGIN)
    try:
        results = run_watched(clip, outputs=[{"type": "webhook", "url": with_login(receiver.url)}])
    finally:
        receiver.close()
    assert receiver.accepted == events_of(results)


@pytest.mark.parametrize("same", [True, False], ids=["the same server", "another server"])
def test_only_the_server_of_the_url_is_told_the_password(clip: Path, same: bool) -> None:
    other = Receiver()
    receiver = Receiver(login=LOGIN, answers=[307], location="/there" if same else other.url)
    try:
        results = run_watched(clip, outputs=[{"type": "webhook", "url": with_login(receiver.url)}])
    finally:
        receiver.close()
        other.close()
    assert None not in receiver.logins
    assert other.logins == ([] if same else [None])
    assert [*other.accepted, *receiver.accepted] == events_of(results)


@pytest.mark.parametrize("answer", [None, 503, 404])
def test_a_webhook_s_password_is_shown_nowhere(answer: int | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver = Receiver(answers=[] if answer is None else [answer] * 9)
    output = WebhookOutput(with_login(receiver.url))
    output.hurry(0.0)
    if answer is None:
        receiver.close()
    try:
        with suppress(OutputGoneError):
            output.open(info()).write(happening(0), None, None)
    finally:
        if answer is not None:
            receiver.close()
    said = caplog.text + str(output.trouble)
    assert f"webhook {receiver.url}" in said
    assert "pa55" not in said


def test_a_webhook_that_comes_later_gets_all_events(clip: Path) -> None:
    port = free_port()
    receivers: list[Receiver] = []
    starter = threading.Timer(0.6, lambda: receivers.append(Receiver(port)))
    starter.start()
    results = run_watched(clip, outputs=[{"type": "webhook", "url": f"http://127.0.0.1:{port}/"}])
    starter.join()
    receivers[0].close()
    assert receivers[0].accepted == events_of(results)


def test_a_receiver_that_does_not_answer_holds_up_nothing(tmp_path: Path) -> None:
    """Not even the decoder of a recording, whose frames are few in memory."""
    long = write_clip(tmp_path / "long.mp4", frames=150)
    receiver = Receiver()
    receiver.open.clear()
    waiting: list[int] = []

    def observe(event: StreamInfo | FrameResult) -> None:
        if isinstance(event, FrameResult) and event.frame == 149:
            waiting.append(len(receiver.accepted))
            receiver.open.set()

    path = str(tmp_path / "a.ndjson")
    outputs = [{"type": "webhook", "url": receiver.url}, {"type": "ndjson", "path": path}]
    try:
        results = run_watched(long, outputs=outputs, observe=observe, batching={"max_batch": 1})
    finally:
        receiver.close()
    assert waiting == [0]
    assert sum("events" in result for result in results) > 7  # more than there are slots for frames
    # A request without an answer within 10 s is made again.
    assert [event for event, _ in groupby(receiver.accepted)] == events_of(results)


def test_a_cooldown_leaves_out_what_comes_again_too_soon(clip: Path) -> None:
    receiver = Receiver()
    try:
        results = run_watched(clip, outputs=[{"type": "webhook", "url": receiver.url, "cooldown": 600}])
    finally:
        receiver.close()

    def key(event: dict[str, Any]) -> tuple[object, ...]:
        return event["event"], event.get("zone"), event.get("line"), event.get("direction")

    first = {key(event): event for event in reversed(events_of(results))}
    assert sorted(receiver.accepted, key=str) == sorted(first.values(), key=str)


def test_mqtt_gets_every_event_in_order(clip: Path, broker: MqttBroker) -> None:
    broker.start()
    listener = Listener(broker, "cams/#")
    topic = "cams/{stream}/{event}"
    results = run_watched(clip, outputs=[{"type": "mqtt", "url": broker.url, "topic": topic}])
    expected = [(f"cams/{e['stream']}/{e['event']}", e) for e in events_of(results)]
    wait_for(lambda: len(listener.messages) >= len(expected))
    listener.close()
    assert listener.messages == expected


def test_mqtt_that_comes_later_gets_all_events(clip: Path, broker: MqttBroker) -> None:
    listeners: list[Listener] = []

    def begin() -> None:
        broker.start()
        listeners.append(Listener(broker, "#"))

    starter = threading.Timer(0.1, begin)
    starter.start()
    results = run_watched(clip, outputs=[{"type": "mqtt", "url": broker.url}])
    starter.join()
    # At the start the broker may take events before the listener has subscribed.
    wait_for(lambda: listeners[0].messages and listeners[0].messages[-1][1] == events_of(results)[-1])
    listeners[0].close()
    told = [event for _, event in listeners[0].messages]
    assert told == events_of(results)[-len(told) :]


MINUTE = pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(180)])


@pytest.mark.parametrize("seconds", [1.0, MINUTE])
def test_mqtt_that_is_down_for_a_while_gets_all_events_of_a_recording(
    clip: Path, broker: MqttBroker, seconds: float
) -> None:
    """Also if the recording comes to its end meanwhile."""
    broker.start()
    told: list[object] = []
    starters: list[threading.Timer] = []

    def observe(event: StreamInfo | FrameResult) -> None:
        told.extend((isinstance(event, FrameResult) and event.events) or ())
        if len(told) >= 4 and not starters:
            wait_for(lambda: len(broker.taken) == len(told))
            broker.stop()
            starters.append(threading.Timer(seconds, broker.start))
            starters[0].start()

    results = run_watched(clip, outputs=[{"type": "mqtt", "url": broker.url}], observe=observe)
    starters[0].join()
    assert len(events_of(results)) > 8
    wait_for(lambda: broker.taken[-1] == events_of(results)[-1])
    taken = [event for event, _ in groupby(broker.taken)]  # qos 1: perhaps twice
    assert taken == events_of(results)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: WebhookOutput("ftp://user:pa55word@host/x"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://user:pa55word@host:99999/x"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://user:pa55word@[::1"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://user:pa55word#@host/"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://a..b/"), "not a valid URL; write http://"),
        (lambda: WebhookOutput("http://host/a b"), "not a valid URL; write http://"),
        (lambda: MqttOutput("http://host", topic="a"), "not a valid URL; write mqtt://"),
        (lambda: MqttOutput("mqtt://user:pa55word@host:99999", topic="a"), "not a valid URL; write mqtt://"),
        (lambda: MqttOutput("mqtt://[::1", topic="a"), "not a valid URL; write mqtt://"),
        (lambda: MqttOutput("mqtt://host", topic="a/#"), "must not be empty nor hold # or +"),
    ],
)
def test_bad_settings_are_named(make: Any, named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)) as caught:
        make()
    assert "pa55word" not in str(caught.value)
    assert "\n" not in str(caught.value)
