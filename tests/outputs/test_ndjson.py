import io
from pathlib import Path

import msgspec
import pytest

from streamseg.errors import OutputError
from streamseg.outputs import NdjsonOutput
from streamseg.types import FrameResult
from tests.support.clips import frame, info, result_of


def lines(text: bytes) -> list[FrameResult]:
    assert text.endswith(b"\n")
    return [msgspec.json.decode(line, type=FrameResult) for line in text.splitlines()]


def test_one_result_a_line_under_a_partial_name_until_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("from an earlier run")
    output = NdjsonOutput(str(path))
    output.open(info())
    results = [result_of(frame(i)) for i in range(5)]
    for n, result in enumerate(results, 1):
        output.write(result, None, None)
        assert lines((tmp_path / "a.ndjson.partial").read_bytes()) == results[:n]
        assert path.read_text() == "from an earlier run"
    output.close("cam", complete=True)
    assert lines(path.read_bytes()) == results
    assert list(tmp_path.iterdir()) == [path]


def test_an_incomplete_stream_keeps_its_partial_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = NdjsonOutput(str(tmp_path / "{stream}.ndjson"), several=True)
    for stream in ("full", "empty"):
        output.open(info(stream))
    output.write(result_of(frame(0, stream="full")), None, None)
    output.close("full", complete=False)
    output.close("empty", complete=False)
    assert [p.name for p in tmp_path.iterdir()] == ["full.ndjson.partial"]
    assert "full.ndjson.partial" in caplog.text


def test_no_results_is_an_empty_file(tmp_path: Path) -> None:
    output = NdjsonOutput(f"{tmp_path}/")
    output.open(info())
    output.close("cam", complete=True)
    assert (tmp_path / "cam.ndjson").read_bytes() == b""


def test_a_next_epoch_goes_on_in_the_file(tmp_path: Path) -> None:
    output = NdjsonOutput(f"{tmp_path}/")
    for epoch in (0, 1):
        output.open(info(live=True, epoch=epoch))
        output.write(result_of(frame(epoch, epoch=epoch)), None, None)
    output.close("cam", complete=True)
    assert [r.epoch for r in lines((tmp_path / "cam.ndjson").read_bytes())] == [0, 1]


def test_standard_output() -> None:
    stdout = io.BytesIO()
    output = NdjsonOutput("-", several=True, stdout=stdout)
    for stream in ("a", "b"):
        output.open(info(stream))
        output.write(result_of(frame(0, stream=stream)), None, None)
    assert [r.stream for r in lines(stdout.getvalue())] == ["a", "b"]
    output.close("a", complete=True)
    output.shutdown()
    assert not stdout.closed


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson.partial").symlink_to("/dev/full")
    output = NdjsonOutput(str(tmp_path / "a.ndjson"))
    output.open(info())
    with pytest.raises(OutputError, match=r"cannot write .*a\.ndjson: No space left"):
        output.write(result_of(frame(0)), None, None)
    output.shutdown()
