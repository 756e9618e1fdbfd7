"""Who may look at the page."""

import socket

import pytest

from streamseg.cli import main
from streamseg.errors import UsageError
from streamseg.web.access import Access, is_loopback
from streamseg.web.hub import Hub
from tests.support.web import get, served

TOKEN = "a token of enough characters"


def test_everything_comes_from_the_program() -> None:
    with served(Hub()) as url:
        status, page = get(url)
        assert status == 200
        assert b"//" not in page.replace(b"<!doctype html>", b""), "nothing is fetched from elsewhere"
        for name in ("page.js", "chart.js", "masks.js", "page.css"):
            assert get(url + name)[0] == 200, name
        assert get(url + "nothing")[0] == 404


def test_other_names_of_this_machine_are_refused() -> None:
    with served(Hub()) as url:
        assert get(url, {"Host": "evil.example:8080"})[0] == 403
        assert get(url, {"Origin": "http://evil.example"})[0] == 403
        assert get(url, {"Origin": url.rstrip("/")})[0] == 200


def test_with_a_token_nobody_looks_without() -> None:
    with served(Hub(), token=TOKEN) as url:
        status, form = get(url)
        assert (status, b"Token" in form) == (401, True)
        assert get(url + "live")[0] == 401
        assert get(f"{url}?token=wrong")[0] == 401
        assert get(f"{url}?token={'é' * 20}".replace("é", "%C3%A9"))[0] == 401
        assert get(url, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert get(url, {"Cookie": f'streamseg_token="{TOKEN}"'})[0] == 200
        assert get(url, {"Host": "camera.example", "Authorization": f"Bearer {TOKEN}"})[0] == 200


def test_the_token_moves_from_the_address_into_a_cookie() -> None:
    import http.client
    from urllib.parse import quote, urlsplit

    with served(Hub(), token=TOKEN) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request("GET", f"/?token={quote(TOKEN)}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "camera.example"])
def test_other_machines_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match=r"can be reached from other machines: set view\.token"):
        Access(host).check(host="view.host", token="view.token")
    with pytest.raises(UsageError, match=r"view\.token must have at least 16 characters"):
        Access(host, "short").check(host="view.host", token="view.token")
    Access(host, TOKEN).check(host="view.host", token="view.token")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "[::1]"])
def test_this_machine_alone_needs_none(host: str) -> None:
    Access(host).check(host="view.host", token="view.token")


def test_a_token_does_not_show() -> None:
    assert TOKEN not in repr(Access("::", TOKEN))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--view=:99999",), "--view ':99999': write HOST:PORT, e.g. 127.0.0.1:8080"),
        (("--view=0.0.0.0:8080",), "view.host 0.0.0.0 can be reached from other machines: set view.token"),
        (
            ("--set", "metrics.enabled=true", "--set", "metrics.port=-1"),
            "metrics.port: Input should be greater",
        ),
        (("--set", "view.token=short", "--view"), "view.token must have at least 16 characters"),
    ],
)
def test_a_wrong_address_is_said_before_anything_runs(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "nothing.mp4", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["run", "nothing.mp4", "--view", f"127.0.0.1:{port}"]) == 2
    assert f"error: view: 127.0.0.1:{port} is in use by another program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--redis", "nonsense"), "Redis URL must begin with redis:// or rediss://"),
        (
            ("--redis", "redis://localhost", "--listen", "0.0.0.0:80"),
            "--listen 0.0.0.0 can be reached from other",
        ),
        (("--redis", "redis://localhost", "--listen", "here"), "--listen 'here': write HOST:PORT"),
        ((), "Missing option '--redis'"),
    ],
)
def test_a_page_of_nothing_is_not_served(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
