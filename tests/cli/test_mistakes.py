"""What a mistake gets: one clear line, the right exit code, nothing half-written."""

from pathlib import Path

import pytest

from streamseg.cli import main
from tests.support import runs
from tests.support.media import cut, write_clip
from tests.support.program import STREET, read_results, run_main, run_program
from tests.support.servers import free_port


def errors_of(stderr: str) -> list[str]:
    assert "Traceback" not in stderr
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def leftovers(folder: Path) -> list[str]:
    """Files under a final name."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".partial"))


def outputs(folder: Path) -> list[str]:
    return ["-o", f"{folder}/out/a.mp4", "--results", f"{folder}/out/a.ndjson"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no source"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["a.mp4", "--set", "model.scor=1"], "unknown key model.scor (did you mean model.score?)"),
        (["a.mp4", "--set", "score=1"], "unknown key score (did you mean model.score?)"),
        (
            ["a.mp4", "--set", "part_minutes=1"],
            "part_minutes (did you mean outputs.N.part_minutes?)",
        ),
        (["a.mp4", "--set", "stream=1"], "unknown key stream (did you mean streams?)"),
        (
            ["a.mp4", "--set", "streams.0.strid=2"],
            "unknown key streams.0.strid (did you mean streams.0.stride?)",
        ),
        (
            ["a.mp4", "--set", "outputs=[{type: video, path: a.mp4, part_minute: 3}]"],
            "unknown key outputs.0.video.part_minute (did you mean outputs.0.video.part_minutes?)",
        ),
        (["a.mp4", "--set", "nothing.like=it"], "unknown key nothing"),
        (["a.mp4", "--score", "7"], "model.score"),
        (["a.mp4", "--device", "tpu"], "model.device"),
        (["a.mp4", "--device", "cuda:99"], "cuda:99"),
        (["a.mp4", "--precision", "fp16", "--device", "cpu"], "fp16"),
        (["a.mp4", "--weights", "nowhere"], "weights 'nowhere'"),
        (["a.mp4", "--weights", "dmo"], "weights 'dmo' (did you mean demo?)"),
        (["a.mp4", "--weights", "solov2_r5"], "(did you mean solov2_r50"),
        (["a.mp4", "--weights", "solov2_r50"], "streamseg convert CHECKPOINT.pth solov2_r50.safetensors"),
        (["a.mp4", "--weights", "."], "is a folder"),
        (["a.mp4", "--classes", "persn"], "class 'persn' (did you mean person?): this model knows person"),
        (["a.mp4", "--blur", "Person"], "overlay.blur: 'Person' (did you mean person?) is not looked for"),
        (["a.mp4", "--classes", "unicorn"], "class 'unicorn': this model knows person"),
        (
            ["a.mp4", "--overlay", "masks,mask"],
            "'mask' cannot be painted (did you mean masks?); allowed: masks",
        ),
        (["a.mp4", "--set", "overlay.label=true"], "unknown key overlay.label"),
        (["a.mp4", "--blur", "face"], "overlay.blur: 'face' is not looked for; allowed: person"),
        (["a.mp4", "--blur", "person", "--classes", "car"], "overlay.blur: 'person'"),
        (["a.mp4", "--redis-overlays"], "--redis-overlays needs --redis"),
        (["a.mp4", "--redis", "http://host"], "redis"),
        (["gopher://host/x"], "scheme 'gopher'"),
        (["*.nothing"], "no video file"),
        (["a.mp4", "--log-level", "loud"], "--log-level"),
        (["a.mp4", "--no-such-flag"], "--no-such-flag"),
        (["a.mp4", "--resuls", "x"], "--results"),
        (["a.mp4", "b.mp4", "-o", "one.mp4"], "one.mp4"),
        (["a.mp4", "--results", "/proc/nowhere/a.ndjson"], "/proc/nowhere"),
        (["a.mp4", "--results", "/dev/full"], "/dev/full: is not an ordinary file"),
        (["--set", "streams=[a.mp4]", "--stride", "2"], "streams.0"),
        (["a.mp4", "--set", "model=demo"], "model"),
        (["rtsp://host/a", "--reconnect-attempts", "-1"], "streams.0.reconnect_attempts"),
        (["rtsp://host/a", "--max-fps", "0"], "streams.0.max_fps: Input should be greater than 0"),
        (["rtsp://host/a", "--set", "streams.0.stalled_after=0"], "streams.0.stalled_after"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_main("run", *arguments)
    assert done.returncode == 2
    (line,) = errors_of(done.stderr)
    assert expected in line
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["rnu", "a.mp4"],
            "no such command 'rnu' (did you mean run?); there are bench, broker, cluster, convert",
        ),
        (["clips/a.mp4"], "no such command 'clips/a.mp4' (did you mean streamseg run clips/a.mp4?)"),
        (["rtsp://me:pa55@host/a"], "(did you mean streamseg run rtsp://me:***@host/a?)"),
        (["zzz"], "no such command 'zzz'; there are"),
    ],
)
def test_a_command_that_is_not_known_gets_advice(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = errors_of(capsys.readouterr().err)
    assert expected in line


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for option in (["--results", f"{tmp_path}/notes.txt/a.ndjson"], ["-o", f"{tmp_path}/notes.txt/b/a.mp4"]):
        done = run_main("run", STREET, *option)
        assert done.returncode == 2
        (line,) = errors_of(done.stderr)
        assert f"{tmp_path}/notes.txt is not a folder" in line


def test_a_host_without_an_address_is_named(tmp_path: Path) -> None:
    urls = ["http://no-such-host.invalid/a.mp4", "rtsp://viewer:pa55word@no-such-host.invalid/a"]
    done = runs.run_program(*urls, "--results", f"{tmp_path}/", "--reconnect-attempts", "0")
    assert done.returncode == 1
    lines = errors_of(done.stderr)
    assert len(lines) == 2
    assert all("the host no-such-host.invalid is not found" in line for line in lines)
    assert "pa55word" not in done.stderr


def test_the_program_exits_as_it_says(tmp_path: Path) -> None:
    done = run_program("a.mp4", "--score", "7", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = errors_of(done.stderr)
    assert "model.score" in line


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    fake = tmp_path / "fake.safetensors"
    fake.write_bytes(b"not weights at all" * 10)
    done = run_main("run", STREET, "--weights", fake)
    assert done.returncode == 2
    (line,) = errors_of(done.stderr)
    assert "fake.safetensors: not a readable safetensors file" in line


def write_text_as_video(path: Path) -> Path:
    path.write_text("this is a shopping list\n" * 40)
    return path


def write_truncated(path: Path) -> Path:
    return cut(write_clip(path.with_name("whole.mp4"), frames=60), path, keep=0.5)


@pytest.mark.parametrize("make", [write_text_as_video, write_truncated, lambda path: path])
def test_a_bad_file_fails_the_run_and_leaves_nothing(make: object, tmp_path: Path) -> None:
    bad = make(tmp_path / "bad.mp4")  # type: ignore[operator]
    done = runs.run_program(bad, *outputs(tmp_path))
    assert done.returncode == 1
    (line,) = errors_of(done.stderr)
    assert "bad.mp4" in line
    assert leftovers(tmp_path / "out") == []


def test_a_file_that_breaks_off_keeps_its_good_part_aside(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", frames=60, muxer={"movflags": "faststart"})
    bad = cut(whole, tmp_path / "bad.mp4", keep=0.6)
    done = runs.run_program(bad, *outputs(tmp_path))
    assert done.returncode == 1
    assert "bad.mp4" in errors_of(done.stderr)[0]
    assert leftovers(tmp_path / "out") == []
    assert 0 < len(read_results(tmp_path / "out" / "a.ndjson.partial")) < 60


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clip(clips / "a.mp4", frames=2)
    write_text_as_video(clips / "b.mp4")
    write_clip(clips / "c.mp4", frames=3)
    done = runs.run_program(clips, "--results", f"{tmp_path}/out/")
    assert done.returncode == 1
    assert ["b.mp4" in line for line in errors_of(done.stderr)] == [True]
    assert leftovers(tmp_path / "out") == ["a.ndjson", "c.ndjson"]


def test_an_unreachable_camera_fails_the_run_without_its_password(tmp_path: Path) -> None:
    url = f"rtsp://viewer:pa55word@127.0.0.1:{free_port()}/cam"
    done = runs.run_program(url, *outputs(tmp_path), "--reconnect-attempts", "1")
    assert done.returncode == 1
    (line,) = errors_of(done.stderr)
    assert "viewer:***@127.0.0.1" in line
    assert "Connection refused (given up after 1 more attempts)" in line
    assert "pa55word" not in done.stderr
    assert leftovers(tmp_path) == []
