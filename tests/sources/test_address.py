"""User and password as people type them: taken as meant, or refused; no other host is ever meant."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.config import parse_config
from streamseg.errors import UsageError
from streamseg.runtime.build import build_sources
from streamseg.sources import SourcePool, resolve_sources, source_for
from streamseg.sources.address import escape_login, with_login
from tests.support.reading import Listener
from tests.support.servers import free_port


@pytest.mark.parametrize(
    ("typed", "host", "password"),
    [
        ("rtsp://admin:pa/Secret@10.0.0.5/x", "10.0.0.5", "pa/Secret"),
        ("rtsp://admin:pa#Secret@10.0.0.5:554/x", "10.0.0.5", "pa#Secret"),
        ("rtsp://admin:pa?Secret@cam.local", "cam.local", "pa?Secret"),
        ("rtsp://admin:a/b#c?d@e@10.0.0.5/x?y=1", "10.0.0.5", "a/b#c?d@e"),
        ("http://admin:p@ss@10.0.0.5/x", "10.0.0.5", "p@ss"),
        ("rtsp://admin:a/@10.0.0.6@10.0.0.5/x", "10.0.0.5", "a/@10.0.0.6"),
        ("http://admin:p:ss@[fe80::1]:80/x", "fe80::1", "p:ss"),
        ("http://admin:100%@10.0.0.5/x", "10.0.0.5", "100%"),
        ("http://admin:my secret@10.0.0.5/x", "10.0.0.5", "my secret"),
        ("rtsp://admin:p%40ss@10.0.0.5/x", "10.0.0.5", "p@ss"),
        ("rtsp://admin:pass@10.0.0.5/x", "10.0.0.5", "pass"),
        ("rtmp://admin:pass%2F1@10.0.0.5/app/key", "10.0.0.5", "pass/1"),
    ],
)
def test_what_can_be_meant_in_one_way_only_works_as_typed(typed: str, host: str, password: str) -> None:
    source = source_for(typed)
    parts = urlsplit(source.url)
    assert (parts.hostname, unquote(parts.username or "")) == (host, "admin")
    assert unquote(parts.password or "") == password
    assert password not in source.shown
    assert password not in repr(source)
    assert password not in source.id


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5:8080/x",
        "https://cdn.example.com/@scope/x.m3u8",
        "http://host/a?mail=me@example.com&x=1",
        "udp://@239.0.0.1:1234",
        "clips/a:b@c.mp4",
        "/dev/video0",
    ],
)
def test_what_has_no_password_stays_as_it_is(url: str) -> None:
    assert escape_login(url) == url


@pytest.mark.parametrize(
    "typed",
    [
        "rtsp://user:Secret@127.0.0.2:9099/x@10.0.0.5/stream",
        "rtsp://admin:8080/Secret@10.0.0.5/x",
        "rtsp://admin:1#Secret@10.0.0.5/x",
        "rtsp://ad/min:Secret@10.0.0.5/x",
        "rtsp://admin:Secret/@10.0.0.5/@10.0.0.6/x",
    ],
)
def test_what_can_mean_two_hosts_is_refused_with_the_escapes(typed: str) -> None:
    with pytest.raises(
        UsageError, match=r"more than one host; write / \? # @ .* as %2F %3F %23 %40"
    ) as refusal:
        source_for(typed)
    assert "Secret" not in str(refusal.value)
    assert ":***@10.0.0." in str(refusal.value)


@pytest.mark.parametrize("typed", ["rtsp://admin:Secret/x", "rtsp://admin:99999/x", "http://:Secret@/x"])
def test_what_has_no_readable_host_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="no host and port can be read from it") as refusal:
        source_for(typed)
    assert "Secret" not in str(refusal.value)


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1), st.sampled_from("/?#@:% ")
)
def test_no_password_leads_to_another_host(text: str, special: str) -> None:
    typed = f"rtsp://admin:{text}{special}@10.0.0.5/stream"
    with suppress(UsageError):  # it could mean two hosts
        url = escape_login(typed)
        assert urlsplit(url).hostname == "10.0.0.5"
        assert urlsplit(url).path == "/stream"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_keys_of_their_own_take_every_password(password: str) -> None:
    parts = urlsplit(with_login("rtsp://10.0.0.5:554/a@b", "viewer", password))
    assert (parts.hostname, parts.port, parts.path) == ("10.0.0.5", 554, "/a@b")
    assert unquote(parts.password or "") == password


def test_keys_of_a_stream_are_hidden_everywhere() -> None:
    stream = {"url": "rtsp://10.0.0.5/x", "user": "viewer", "password": "se/cr@t"}
    config = parse_config({"streams": [stream]}, where="test")
    (source,) = build_sources(config)
    assert source.url == "rtsp://viewer:se%2Fcr%40t@10.0.0.5/x"
    for text in (repr(config), repr(source), source.shown, source.id):
        assert "se/cr@t" not in text
        assert "se%2Fcr" not in text


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"url": "rtsp://a:Secret@10.0.0.5/x", "user": "b"}, "in the URL and in keys of their own"),
        ({"url": "a.mp4", "user": "b"}, "are for URLs that begin with http, https, rtmp"),
        ({"url": "rtsp://10.0.0.5/x", "user": "a:b"}, "cannot have a colon"),
        ({"url": "rtsp://10.0.0.5:x/x", "password": "Secret"}, "no host and port"),
    ],
)
def test_keys_that_cannot_work_are_refused(stream: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        build_sources(parse_config({"streams": [stream]}, where="test"))
    assert "Secret" not in str(refusal.value)


def test_a_slash_in_the_password_reaches_the_camera_that_is_meant() -> None:
    """``admin`` is no host of this machine: it would be looked up, and the camera never asked."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"rtsp://127.0.0.1:{free_port()}/Secret@127.0.0.1:{camera.getsockname()[1]}/x"
        with pytest.raises(UsageError, match="more than one host"):
            resolve_sources([url])
        (source,) = resolve_sources([f"rtsp://admin:pa/Secret@127.0.0.1:{camera.getsockname()[1]}/x"])
        camera.settimeout(40)
        asked = threading.Event()
        listener = Listener()
        with SourcePool([source], emit=listener):
            connection, _ = camera.accept()
            asked.set()
            connection.close()
        assert asked.is_set()
        assert "Secret" not in str(listener.events)
