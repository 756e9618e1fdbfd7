"""The whole program, its configuration file and SIGHUP."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.program import read_results
from tests.support.runs import started
from tests.support.servers import RtspServer, free_port, rtsp_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    media = tmp_path / "media"
    media.mkdir()
    write_clip(media / "clip.mp4", frames=100, width=160, height=120, bframes=0, gop=10)
    with rtsp_server(media) as running:
        yield running


@pytest.mark.timeout(200)
def test_the_program_takes_over_the_file_and_listens_to_sighup(server: RtspServer, tmp_path: Path) -> None:
    path, out, clips = tmp_path / "run.yaml", tmp_path / "out", tmp_path / "clips"
    clips.mkdir()
    write_clip(clips / "one.mp4", frames=3)

    def write(*streams: dict[str, str], score: float = 0.3) -> None:
        content = {
            "streams": [*streams, {"url": str(clips)}],
            "outputs": [{"type": "ndjson", "path": f"{out}/"}],
            "model": {"score": score},
        }
        new = path.with_suffix(".new")
        new.write_text(yaml.safe_dump(content))
        new.replace(path)

    def results(name: str) -> bool:
        file = out / f"{name}.ndjson"
        return file.exists() and file.stat().st_size > 0

    away = {"id": "away", "url": f"rtsp://me:secret@127.0.0.1:{free_port()}/a"}
    first, second = ({"id": name, "url": server.url("clip.mp4")} for name in ("first", "second"))
    write(away, first)
    with started("-c", path) as program:
        begun = out / "first.ndjson.partial"
        wait_for(
            lambda: results("one") and begun.exists() and begun.stat().st_size, seconds=60, what="results"
        )
        write_clip(clips / "two.mp4", frames=3)  # the file that names the folder is as it was
        program.send_signal(signal.SIGHUP)
        wait_for(lambda: results("two"), seconds=60, what="results of the clip added to the folder")
        write(second, score=0.5)
        wait_for(lambda: results("first"), seconds=60, what="the removed camera's file")
        partial = out / "second.ndjson.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size, seconds=60, what="the added camera")
        program.send_signal(signal.SIGINT)
        _, stderr = program.communicate(timeout=30)
    assert program.returncode == 130, stderr
    assert results("second")
    assert "away: cannot connect to rtsp://me:***@127.0.0.1" in stderr
    assert "streams of the configuration: added two" in stderr
    assert "streams of the configuration: added second; removed away, first" in stderr
    assert "only streams can change while it runs; model: needs a restart" in stderr
    assert "secret" not in stderr


@pytest.fixture
def with_terminal() -> Iterator[None]:
    """Programs started here do not ignore SIGHUP, also if these tests run behind nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("with_terminal")
def test_a_closed_terminal_ends_a_run_in_order(tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "clip.mp4", frames=400), tmp_path / "out.ndjson"
    partial = tmp_path / "out.ndjson.partial"
    with started(clip, "--results", out, seconds=0.05) as program:
        wait_for(lambda: partial.exists() and partial.stat().st_size, seconds=60, what="results")
        program.send_signal(signal.SIGHUP)
        _, stderr = program.communicate(timeout=30)
    assert program.returncode == 128 + signal.SIGHUP, stderr
    assert 0 < len(read_results(out)) < 400
