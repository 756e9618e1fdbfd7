"""The live page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.program import ROOT
from tests.support.runs import command
from tests.support.servers import free_port, rtsp_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's package chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1100, "height": 760})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


def pictures(page: Page, stream: str) -> int:
    """How many pictures of a stream were drawn."""
    return int(page.locator(f'[data-stream="{stream}"]').get_attribute("data-pictures") or 0)


def test_two_cameras_are_watched_through_a_restart(page: Page, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=200)
    port = free_port()
    with rtsp_server(tmp_path) as camera:
        sources = [camera.url("a.mp4"), camera.url("a.mp4")]
        names = ("--set", "streams.0.id=lobby", "--set", "streams.1.id=yard")
        started = command(*sources, *names, f"--view=127.0.0.1:{port}")
        program = subprocess.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            assert program.stderr is not None
            assert program.stderr.readline() == f"http://127.0.0.1:{port}/\n"
            page.goto(f"http://127.0.0.1:{port}/")
            for stream in ("lobby", "yard"):
                tile = page.locator(f'[data-stream="{stream}"]')
                tile.locator('.state[data-state="live"]').wait_for(timeout=30_000)
                seen = pictures(page, stream)
                wait_for(lambda stream=stream, seen=seen: pictures(page, stream) > seen + 3)
                tile.locator(".counts span", has_text="person").wait_for(timeout=30_000)
            look_at_one(page)
            program.send_signal(signal.SIGINT)
            assert program.wait(timeout=30) == 130
            page.locator("#lost").wait_for(state="visible", timeout=30_000)
            program.stderr.close()
            program = subprocess.Popen(started, cwd=ROOT, stderr=subprocess.DEVNULL)
            seen = pictures(page, "lobby")
            page.locator("#lost").wait_for(state="hidden", timeout=30_000)
            wait_for(lambda: pictures(page, "lobby") > seen + 3, seconds=30)
        finally:
            program.kill()
            program.wait()


def look_at_one(page: Page) -> None:
    """Large, and what is under the pointer."""
    page.locator('[data-stream="lobby"] .open').click()
    page.locator("#large").wait_for(state="visible")
    picture = page.locator("#large .picture")
    box = picture.bounding_box()
    assert box is not None
    tip = page.locator("#large .tip")
    places = [(x, y) for y in range(5, 100, 5) for x in range(2, 100, 3)]

    def found() -> bool:
        for x, y in places:
            page.mouse.move(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100)
            if tip.is_visible():
                return True
        return False

    wait_for(found, seconds=60, what="an object under the pointer")
    assert (tip.text_content() or "").split()[0] in {"person", "car"}
    page.keyboard.press("Escape")
    page.locator("#large").wait_for(state="hidden")


def test_a_lost_camera_is_dimmed_and_its_age_told(page: Page, tmp_path: Path) -> None:
    """Its counts are not those of its last picture, and an output that is down stands above all."""
    write_clip(tmp_path / "a.mp4", frames=200)
    port = free_port()
    with rtsp_server(tmp_path) as camera, rtsp_server(tmp_path) as other:
        sources = [camera.url("a.mp4"), other.url("a.mp4")]
        names = ("--set", "streams.0.id=lobby", "--set", "streams.1.id=yard")
        results = ("--results", tmp_path / "out" / "{stream}.ndjson")
        (tmp_path / "out").mkdir()
        os.symlink("/dev/full", tmp_path / "out" / "yard.ndjson.partial")
        started = command(*sources, *names, *results, f"--view=127.0.0.1:{port}")
        with subprocess.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
            try:
                assert program.stderr is not None
                assert program.stderr.readline() == f"http://127.0.0.1:{port}/\n"
                page.goto(f"http://127.0.0.1:{port}/")
                lobby, yard = (page.locator(f'[data-stream="{name}"]') for name in ("lobby", "yard"))
                for tile in (lobby, yard):
                    tile.locator('.state[data-state="live"]').wait_for(timeout=30_000)
                    tile.locator(".counts span", has_text=re.compile(r"\d person")).wait_for(timeout=30_000)
                    assert tile.get_attribute("data-lost") == "false"
                down = page.locator('#outputs [data-output="NdjsonOutput"]')
                down.wait_for(timeout=30_000)
                assert "is down: " in (down.text_content() or "")
                assert "No space left" in (down.text_content() or "")
                camera.kill()
                lobby.locator(".age", has_text=re.compile(r"last picture \d+ s ago")).wait_for(timeout=30_000)
                lobby.locator(".counts span", has_text="\u2013 person").wait_for(timeout=30_000)
                assert lobby.get_attribute("data-lost") == "true"
                dimmed = "element => getComputedStyle(element).filter"
                assert "grayscale" in lobby.locator(".picture").evaluate(dimmed)
                assert yard.get_attribute("data-lost") == "false"
                assert yard.locator(".picture").evaluate(dimmed) == "none"
                camera.start()
                lobby.locator('.state[data-state="live"]').wait_for(timeout=40_000)
                wait_for(lambda: lobby.get_attribute("data-lost") == "false")
                assert lobby.locator(".age").text_content() == ""
            finally:
                program.kill()
